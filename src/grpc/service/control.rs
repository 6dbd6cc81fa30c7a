//! Lifecycle commands on one process.

use tonic::{Request, Status};

use super::{
    ProcessManagerService,
    call::{Call, Done, Write},
};
use crate::{
    domain::{id::Revision, run::SignalScope},
    grpc::{
        convert::{
            Faults, process,
            request::{self, Guarded, Then, WAIT_MAX},
            signal,
        },
        dedupe::Outcome,
        proto::{self, WaitOutcome, signal_process_request::TargetSignal},
    },
    supervisor::{Ack, Control, Refused, Target},
};

/// What every command answers.
struct Answer {
    header: Option<proto::ResponseHeader>,
    process: Option<proto::Process>,
    outcome: i32,
}

/// A signal that was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    run_id: i64,
    revision: Revision,
}

/// A command without a wait.
const AT_ONCE: Then = Then {
    condition: None,
    timeout: WAIT_MAX,
};

// === impl ProcessManagerService ===

impl ProcessManagerService {
    pub(super) async fn start(
        &self,
        request: Request<proto::StartProcessRequest>,
    ) -> Result<proto::StartProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call.write("StartProcess", &message.request_id, &message)?;
        let mut faults = Faults::default();
        let then = request::then(message.wait.as_ref(), &mut faults);
        let target = self.target(&message.name, message.precondition.as_ref(), faults)?;
        let (supervisor, cause) = (self.supervisor().clone(), write.cause.clone());
        let work = async move {
            if message.with_dependencies {
                supervisor.start_with_dependencies(target, cause).await
            } else {
                supervisor.control(target, Control::Start, cause).await
            }
        };
        let answer = self.command(&write, then, work).await?;
        Ok(proto::StartProcessResponse {
            header: answer.header,
            process: answer.process,
            wait_outcome: answer.outcome,
        })
    }

    pub(super) async fn stop(
        &self,
        request: Request<proto::StopProcessRequest>,
    ) -> Result<proto::StopProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call.write("StopProcess", &message.request_id, &message)?;
        let mut faults = Faults::default();
        let then = request::then(message.wait.as_ref(), &mut faults);
        let stop = request::stop(message.stop_policy.as_ref(), &mut faults);
        let target = self.target(&message.name, message.precondition.as_ref(), faults)?;
        let (supervisor, cause) = (self.supervisor().clone(), write.cause.clone());
        let work = async move {
            if message.with_dependents {
                supervisor.stop_with_dependents(target, stop, cause).await
            } else {
                supervisor.control(target, Control::Stop(stop), cause).await
            }
        };
        let answer = self.command(&write, then, work).await?;
        Ok(proto::StopProcessResponse {
            header: answer.header,
            process: answer.process,
            wait_outcome: answer.outcome,
        })
    }

    pub(super) async fn restart(
        &self,
        request: Request<proto::RestartProcessRequest>,
    ) -> Result<proto::RestartProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call.write("RestartProcess", &message.request_id, &message)?;
        let mut faults = Faults::default();
        let then = request::then(message.wait.as_ref(), &mut faults);
        let stop = request::stop(message.stop_policy.as_ref(), &mut faults);
        let target = self.target(&message.name, message.precondition.as_ref(), faults)?;
        let answer = self
            .control(&write, target, Control::Restart(stop), then)
            .await?;
        Ok(proto::RestartProcessResponse {
            header: answer.header,
            process: answer.process,
            wait_outcome: answer.outcome,
        })
    }

    pub(super) async fn pause(
        &self,
        request: Request<proto::PauseProcessRequest>,
    ) -> Result<proto::PauseProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call.write("PauseProcess", &message.request_id, &message)?;
        let guard = message.precondition.as_ref();
        let target = self.target(&message.name, guard, Faults::default())?;
        let answer = self
            .control(&write, target, Control::Pause, AT_ONCE)
            .await?;
        Ok(proto::PauseProcessResponse {
            header: answer.header,
            process: answer.process,
        })
    }

    pub(super) async fn resume(
        &self,
        request: Request<proto::ResumeProcessRequest>,
    ) -> Result<proto::ResumeProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call.write("ResumeProcess", &message.request_id, &message)?;
        let guard = message.precondition.as_ref();
        let target = self.target(&message.name, guard, Faults::default())?;
        let answer = self
            .control(&write, target, Control::Resume, AT_ONCE)
            .await?;
        Ok(proto::ResumeProcessResponse {
            header: answer.header,
            process: answer.process,
        })
    }

    pub(super) async fn reset(
        &self,
        request: Request<proto::ResetProcessRequest>,
    ) -> Result<proto::ResetProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call.write("ResetProcess", &message.request_id, &message)?;
        let guard = message.precondition.as_ref();
        let target = self.target(&message.name, guard, Faults::default())?;
        let answer = self
            .control(&write, target, Control::Reset, AT_ONCE)
            .await?;
        Ok(proto::ResetProcessResponse {
            header: answer.header,
            process: answer.process,
        })
    }

    pub(super) async fn signal(
        &self,
        request: Request<proto::SignalProcessRequest>,
    ) -> Result<proto::SignalProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call.write("SignalProcess", &message.request_id, &message)?;
        let mut faults = Faults::default();
        let number = number(message.target_signal, &mut faults);
        let scope = faults
            .known("scope", message.scope)
            .and_then(signal::scope)
            .unwrap_or(SignalScope::Main);
        let target = self.target(&message.name, message.precondition.as_ref(), faults)?;
        let (supervisor, cause) = (self.supervisor().clone(), write.cause.clone());
        let work = async move {
            let run_id = supervisor.signal(target, number, scope, cause).await?;
            // A signal is no change; what it leads to comes after this head.
            let revision = supervisor.registry().head();
            Ok(Sent { run_id, revision })
        };
        let sent = self.once(&write, work).await?;
        Ok(proto::SignalProcessResponse {
            header: self.header(sent.revision),
            run_id: sent.run_id,
        })
    }

    /// The process a command is about, unless there are faults.
    pub(super) fn target(
        &self,
        name: &str,
        precondition: Option<&proto::Precondition>,
        mut faults: Faults,
    ) -> Result<Target, Status> {
        let guarded = request::guarded(name, "", precondition, &mut faults);
        let Guarded { target, epoch } = faults.finish_some(guarded)?;
        self.check_epoch(target.name.as_str(), &epoch)?;
        Ok(target)
    }

    async fn control(
        &self,
        write: &Write,
        target: Target,
        control: Control,
        then: Then,
    ) -> Result<Answer, Status> {
        let (supervisor, cause) = (self.supervisor().clone(), write.cause.clone());
        let work = async move { supervisor.control(target, control, cause).await };
        self.command(write, then, work).await
    }

    async fn command(
        &self,
        write: &Write,
        then: Then,
        work: impl Future<Output = Result<Ack, Refused>> + Send + 'static,
    ) -> Result<Answer, Status> {
        let work = async move { work.await.map(Done::from) };
        let done = self.once(write, work).await?;
        let (outcome, node): (WaitOutcome, _) = self.settle(&write.call, &done, then).await?;
        Ok(Answer {
            header: self.written(&done),
            process: node.as_ref().map(process::process),
            outcome: outcome.into(),
        })
    }
}

// === impl Sent ===

impl Outcome for Sent {
    fn revision(&self) -> i64 {
        self.revision.get()
    }
}

/// The kernel's number of the signal to send; 0 only with a fault noted.
fn number(target: Option<TargetSignal>, faults: &mut Faults) -> i32 {
    let number = match target {
        Some(TargetSignal::Signal(named)) => faults.known("signal", named).and_then(signal::number),
        Some(TargetSignal::SignalNumber(number)) if (1..=64).contains(&number) => Some(number),
        Some(TargetSignal::SignalNumber(_)) => {
            faults.add("signal_number", "must be 1 to 64");
            None
        }
        None => None,
    };
    if number.is_none() && faults.is_empty() {
        faults.add("signal", "is required: a named signal or signal_number");
    }
    number.unwrap_or_default()
}
