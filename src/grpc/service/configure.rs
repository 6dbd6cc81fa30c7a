//! Writes of configuration: create, update, apply, delete.

use tokio::sync::oneshot;
use tonic::{Request, Status};

use super::{
    ProcessManagerService,
    call::{Call, Done, Write},
};
use crate::{
    domain::{
        admission::{Current, Denied, Verb, admit},
        id::Revision,
        spec::StopPolicy,
        wait::Condition,
    },
    grpc::{
        convert::{
            Faults, Unacceptable, process,
            request::{self, Guarded, Then, WAIT_MAX},
        },
        mask::UpdateMask,
        proto,
    },
    supervisor::{ProcessNode, Refused, Target},
};

/// The process a deletion is about, and how it went so far.
struct Deletion {
    target: Target,
    stop: StopPolicy,
    only_if_stopped: bool,
}

// === impl ProcessManagerService ===

impl ProcessManagerService {
    pub(super) async fn create(
        &self,
        request: Request<proto::CreateProcessRequest>,
    ) -> Result<proto::CreateProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let validate_only = message.validate_only;
        let write = call
            .write("CreateProcess", &message.request_id, &message)?
            .unless(validate_only);
        let draft = process::draft(message.process)?;
        let preview = validate_only.then(|| process::preview(&draft));
        let (supervisor, cause) = (self.supervisor().clone(), write.cause.clone());
        let (tell, mut told) = oneshot::channel();
        let work = async move {
            let name = draft.name.clone();
            let done = supervisor.create(draft, cause, validate_only).await?;
            let _ = tell.send(done.node.clone()); // the caller may be gone
            Ok(Done::configured(name, &done))
        };
        let done = self.once(&write, work).await?;
        // It may be deleted already; then it is told as it was created.
        let created = || told.try_recv().ok().flatten();
        let node = self.now(&done).or_else(created);
        let process = preview.or_else(|| node.map(|node| process::process(&node)));
        Ok(proto::CreateProcessResponse {
            header: self.written(&done),
            process,
        })
    }

    pub(super) async fn update(
        &self,
        request: Request<proto::UpdateProcessRequest>,
    ) -> Result<proto::UpdateProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let validate_only = message.validate_only;
        let write = call
            .write("UpdateProcess", &message.request_id, &message)?
            .unless(validate_only);
        let process = required(message.process)?;
        let mut faults = Faults::default();
        let guard = message.precondition.as_ref();
        let guarded = request::guarded(&process.name, &process.etag, guard, &mut faults);
        let rollout = request::rollout(message.rollout, &mut faults);
        let then = request::then(message.wait.as_ref(), &mut faults);
        let mask = UpdateMask::parse(message.update_mask.as_ref())
            .map_err(|found| faults.extend(found))
            .ok();
        let (Guarded { target, epoch }, mask) = faults.finish_some(guarded.zip(mask))?;
        let name = target.name.clone();
        self.check_epoch(name.as_str(), &epoch)?;
        let edit = process::edit(process, mask, &name)?;
        let (supervisor, cause) = (self.supervisor().clone(), write.cause.clone());
        let work = async move {
            let done = supervisor
                .update(target, edit, rollout, cause, validate_only)
                .await?;
            Ok(Done::configured(name, &done))
        };
        let done = self.once(&write, work).await?;
        let then = then.unless(validate_only);
        let (outcome, node) = self.settle(&write.call, &done, then).await?;
        Ok(proto::UpdateProcessResponse {
            header: self.written(&done),
            process: node.as_ref().map(process::process),
            plan: done.configured.map(|(_, plan)| plan),
            wait_outcome: outcome.into(),
        })
    }

    pub(super) async fn apply(
        &self,
        request: Request<proto::ApplyProcessRequest>,
    ) -> Result<proto::ApplyProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let validate_only = message.validate_only;
        let write = call
            .write("ApplyProcess", &message.request_id, &message)?
            .unless(validate_only);
        let process = required(message.process)?;
        let mut faults = Faults::default();
        let rollout = request::rollout(message.rollout, &mut faults);
        let then = request::then(message.wait.as_ref(), &mut faults);
        let guard = message.precondition.as_ref();
        let guarded = request::guarded(&process.name, &process.etag, guard, &mut faults);
        let draft = process::draft_into(process, &mut faults);
        let (Guarded { target, epoch }, draft) = faults.finish_some(guarded.zip(draft))?;
        self.check_epoch(target.name.as_str(), &epoch)?;
        let preview = validate_only.then(|| process::preview(&draft));
        let (supervisor, cause) = (self.supervisor().clone(), write.cause.clone());
        let work = async move {
            let name = target.name.clone();
            let done = supervisor
                .apply(target, draft.config, rollout, cause, validate_only)
                .await?;
            Ok(Done::configured(name, &done))
        };
        let done = self.once(&write, work).await?;
        let then = then.unless(validate_only);
        let (wait_outcome, node) = self.settle(&write.call, &done, then).await?;
        let header = self.written(&done);
        let (outcome, plan) = done.configured.unzip();
        Ok(proto::ApplyProcessResponse {
            header,
            process: node.as_ref().map(process::process).or(preview),
            outcome: outcome.unwrap_or_default().into(),
            plan,
            wait_outcome: wait_outcome.into(),
        })
    }

    pub(super) async fn delete(
        &self,
        request: Request<proto::DeleteProcessRequest>,
    ) -> Result<proto::DeleteProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call.write("DeleteProcess", &message.request_id, &message)?;
        let mut faults = Faults::default();
        let guard = message.precondition.as_ref();
        let guarded = request::guarded(&message.name, &message.etag, guard, &mut faults);
        let stop = request::stop(message.stop_policy.as_ref(), &mut faults);
        let then = match &message.wait {
            // Answer when it is gone.
            None => Then {
                condition: Some(Condition::Deleted),
                timeout: WAIT_MAX,
            },
            wait => request::then(wait.as_ref(), &mut faults),
        };
        let Guarded { target, epoch } = faults.finish_some(guarded)?;
        self.check_epoch(target.name.as_str(), &epoch)?;
        let deletion = Deletion {
            target,
            stop,
            only_if_stopped: message.only_if_stopped,
        };
        if self.is_absent(&deletion, message.allow_missing) {
            return Ok(proto::DeleteProcessResponse {
                header: self.header(self.head()),
                ..Default::default()
            });
        }
        if message.validate_only {
            return self.may_delete(&deletion);
        }
        self.carry_out(&write, deletion, then).await
    }

    async fn carry_out(
        &self,
        write: &Write,
        deletion: Deletion,
        then: Then,
    ) -> Result<proto::DeleteProcessResponse, Status> {
        let name = deletion.target.name.clone();
        let last = self.supervisor().registry().get(name.as_str());
        let (supervisor, cause) = (self.supervisor().clone(), write.cause.clone());
        let work = async move {
            let Deletion {
                target,
                stop,
                only_if_stopped,
            } = deletion;
            let ack = supervisor
                .delete(target, stop, only_if_stopped, cause)
                .await?;
            Ok(Done::from(ack))
        };
        let done = self.once(write, work).await?;
        let same = |node: &ProcessNode| Some(node.uid()) == done.uid;
        let last = last.filter(same);
        let last = self.now(&done).or(last);
        let (outcome, node) = self.settle(&write.call, &done, then).await?;
        Ok(proto::DeleteProcessResponse {
            header: self.written(&done),
            process: node.or(last).as_ref().map(process::process),
            wait_outcome: outcome.into(),
        })
    }

    /// Whether there is nothing to delete and the caller does not mind.
    fn is_absent(&self, deletion: &Deletion, allow_missing: bool) -> bool {
        let name = deletion.target.name.as_str();
        allow_missing && self.supervisor().registry().get(name).is_none()
    }

    /// What a deletion would answer.
    fn may_delete(&self, deletion: &Deletion) -> Result<proto::DeleteProcessResponse, Status> {
        let before = self.head();
        let node = self.existing(&deletion.target.name)?;
        let verb = if deletion.only_if_stopped {
            Verb::DeleteIfStopped
        } else {
            Verb::Delete
        };
        let state = node.body();
        let current = Current {
            uid: node.uid(),
            version: node.version(),
            generation: state.spec.generation,
            run_id: state.status.run_id,
        };
        let guard = deletion.target.guard.check(current);
        guard
            .and_then(|()| admit(verb, &state.status))
            .map_err(|denied: Denied| {
                let name = deletion.target.name.clone();
                self.refused(&Refused::Denied { name, denied })
            })?;
        Ok(proto::DeleteProcessResponse {
            header: self.read_header(before, &node),
            process: Some(process::process(&node)),
            ..Default::default()
        })
    }

    /// Header of a write. What was only validated is true at the head.
    pub(super) fn written(&self, done: &Done) -> Option<proto::ResponseHeader> {
        let revision = done.position.revision;
        self.header(if revision == Revision::ZERO {
            self.head()
        } else {
            revision
        })
    }
}

fn required(process: Option<proto::Process>) -> Result<proto::Process, Unacceptable> {
    process.ok_or_else(|| Unacceptable::field("process", "is required"))
}
