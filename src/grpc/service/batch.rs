//! Writes to many processes: validated together, carried out one by one, answered
//! per item.

use std::collections::HashSet;

use futures_util::future::join_all;
use tonic::{Request, Status};

use super::{
    BATCH_PROCESSES_MAX, ProcessManagerService, Prune,
    call::{Call, Done},
    earlier::Earlier,
};
use crate::{
    domain::{
        id::{ProcessName, Revision},
        spec::StopPolicy,
        status::Cause,
        wait::Condition,
    },
    grpc::{
        convert::{
            Faults,
            outcome::item_status,
            process,
            request::{self, Then},
        },
        dedupe::Outcome,
        proto::{self, ApplyOutcome, ControlAction, WaitOutcome},
        selector, status,
    },
    supervisor::{BatchItem, Configured, Control, Draft, Rollout},
    watch::Filter,
};

/// How each process of a batch fared.
#[derive(Debug, Clone)]
struct Items(Vec<(ProcessName, Result<Done, Status>)>);

/// A checked `BatchApplyProcessesRequest`.
struct Batch {
    drafts: Vec<Draft>,
    prune: Option<Filter>,
    rollout: Rollout,
    then: Then,
    validate_only: bool,
}

// === impl ProcessManagerService ===

impl ProcessManagerService {
    pub(super) async fn batch_apply(
        &self,
        request: Request<proto::BatchApplyProcessesRequest>,
    ) -> Result<proto::BatchApplyProcessesResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call
            .write("BatchApplyProcesses", &message.request_id, &message)?
            .unless(message.validate_only);
        let mut batch = batch(message)?;
        let mut prune = self.prune(&batch);
        let mut done = Vec::new();
        if let Some(earlier) = self.earlier(&write)? {
            prune.retain(|name| self.is_left(&earlier, name));
            done = earlier.out_of(&mut batch.drafts);
        }
        let (then, validate_only) = (batch.then.unless(batch.validate_only), batch.validate_only);
        let (service, cause) = (self.clone(), write.cause.clone());
        let work = async move {
            let supervisor = service.supervisor();
            let items = supervisor
                .apply_batch(batch.drafts, prune, batch.rollout, cause, validate_only)
                .await?;
            let items = service.items(items, |name, done: Configured| {
                Done::configured(name, &done)
            });
            Ok(items.with(done))
        };
        let Items(items) = self.once(&write, work).await?;
        let header = self.batch_header(&items);
        let results = items.into_iter().map(async |(name, result)| {
            let waited = self.item(&write.call, result, then).await;
            apply_result(name, waited)
        });
        Ok(proto::BatchApplyProcessesResponse {
            header,
            results: join_all(results).await,
        })
    }

    /// Applies what a configuration file asks for, on behalf of `cause`; nothing is
    /// pruned.
    ///
    /// # Errors
    /// The answer a client would get: to the whole set, or to the first process
    /// that failed, in which case others may have been applied.
    pub async fn apply_config(
        &self,
        processes: Vec<proto::Process>,
        groups: Vec<proto::ProcessGroup>,
        prune: Prune,
        cause: Cause,
    ) -> Result<(), Status> {
        let batch = batch(proto::BatchApplyProcessesRequest {
            processes,
            groups,
            ..Default::default()
        })?;
        let pruned = match prune {
            Prune::Nothing => Vec::new(),
            Prune::All => self.all_but(&batch.drafts),
        };
        let items = self
            .supervisor()
            .apply_batch(batch.drafts, pruned, batch.rollout, cause, false)
            .await
            .map_err(|refused| self.refused(&refused))?;
        items
            .into_iter()
            .try_for_each(|item| item.result.map(drop))
            .map_err(|refused| self.refused(&refused))
    }

    fn all_but(&self, drafts: &[Draft]) -> Vec<ProcessName> {
        let nodes = self.supervisor().registry().snapshot().nodes;
        let names = nodes.iter().map(|node| node.body().name());
        let is_pruned = |name: &&ProcessName| drafts.iter().all(|draft| draft.name != **name);
        names.filter(is_pruned).cloned().collect()
    }

    pub(super) async fn batch_control(
        &self,
        request: Request<proto::BatchControlProcessesRequest>,
    ) -> Result<proto::BatchControlProcessesResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let write = call.write("BatchControlProcesses", &message.request_id, &message)?;
        let mut faults = Faults::default();
        if message.selector.is_none() {
            faults.add("selector", "is required; present and empty means all");
        }
        let control = action(message.action, &mut faults);
        faults.absent(message.rolling.is_some(), "rolling", "rolling");
        let then = request::then(message.wait.as_ref(), &mut faults);
        let control = faults.finish_some(control)?;
        let filter = selector::filter(message.selector.as_ref())?;
        let (mut names, mut missing) = self.chosen(&filter);
        let mut done = Vec::new();
        if let Some(earlier) = self.earlier(&write)? {
            names.retain(|name| self.is_left(&earlier, name));
            missing.retain(|name| !earlier.is_done(name));
            done = earlier.into_done();
        }
        let (service, cause) = (self.clone(), write.cause.clone());
        let ordered = !message.unordered;
        let work = async move {
            let supervisor = service.supervisor();
            let items = supervisor
                .control_many(names, control, ordered, cause)
                .await;
            let items = service.items(items, |_, ack| Done::from(ack));
            let Items(mut items) = items.with(done);
            items.extend(missing.into_iter().map(|name| {
                let status = status::not_found([name.as_str()]);
                (name, Err(status))
            }));
            Ok(Items(items))
        };
        let Items(items) = self.once(&write, work).await?;
        let header = self.batch_header(&items);
        let results = items.into_iter().map(async |(name, result)| {
            let waited = self.item(&write.call, result, then).await;
            control_result(&name, waited)
        });
        Ok(proto::BatchControlProcessesResponse {
            header,
            results: join_all(results).await,
        })
    }

    /// What to delete: what the batch's selector matches and the batch does not have.
    fn prune(&self, batch: &Batch) -> Vec<ProcessName> {
        let Some(filter) = &batch.prune else {
            return Vec::new();
        };
        let kept: HashSet<_> = batch.drafts.iter().map(|draft| &draft.name).collect();
        let (mut names, _) = self.chosen(filter);
        names.retain(|name| !kept.contains(name));
        names
    }

    /// The names that match, and the exact ones that do not exist.
    fn chosen(&self, filter: &Filter) -> (Vec<ProcessName>, Vec<ProcessName>) {
        let registry = self.supervisor().registry();
        let cut = registry.snapshot();
        let matching = cut.nodes.iter().filter(|node| filter.matches(node.body()));
        let names = matching.map(|node| node.body().name().clone()).collect();
        let missing = filter.names().filter(|name| {
            cut.nodes
                .binary_search_by(|node| node.body().name().cmp(name))
                .is_err()
        });
        (names, missing.cloned().collect())
    }

    /// Whether a repetition of an earlier batch comes to this process.
    fn is_left(&self, earlier: &Earlier, name: &ProcessName) -> bool {
        let node = self.supervisor().registry().get(name.as_str());
        node.is_some_and(|node| earlier.is_left(name, node.body().spec.created))
    }

    fn items<T>(&self, items: Vec<BatchItem<T>>, done: impl Fn(ProcessName, T) -> Done) -> Items {
        let item = |BatchItem { name, result }: BatchItem<T>| {
            let result = match result {
                Ok(value) => Ok(done(name.clone(), value)),
                Err(refused) => Err(self.refused(&refused)),
            };
            (name, result)
        };
        Items(items.into_iter().map(item).collect())
    }

    /// Waits for one item of a batch.
    async fn item(
        &self,
        call: &Call,
        result: Result<Done, Status>,
        then: Then,
    ) -> Result<(Done, WaitOutcome), Status> {
        let done = result?;
        let pruned = matches!(done.configured, Some((ApplyOutcome::Pruned, _)));
        let then = Then {
            // What is pruned is waited for until it is gone.
            condition: then
                .condition
                .map(|wanted| if pruned { Condition::Deleted } else { wanted }),
            ..then
        };
        let (outcome, _) = self.settle(call, &done, then).await?;
        Ok((done, outcome))
    }

    /// Everything the batch did is at or below this.
    fn batch_header(
        &self,
        items: &[(ProcessName, Result<Done, Status>)],
    ) -> Option<proto::ResponseHeader> {
        let done = items.iter().filter_map(|(_, result)| result.as_ref().ok());
        let last = done.map(|done| done.position.revision).max();
        self.header(
            last.filter(|r| *r > Revision::ZERO)
                .unwrap_or_else(|| self.head()),
        )
    }
}

// === impl Items ===

impl Items {
    /// What an earlier run of the daemon did comes last.
    fn with(mut self, done: Vec<Done>) -> Self {
        let items = done.into_iter().map(|done| (done.name.clone(), Ok(done)));
        self.0.extend(items);
        self
    }
}

impl Outcome for Items {
    fn revision(&self) -> i64 {
        let done = self.0.iter().filter_map(|(_, result)| result.as_ref().ok());
        done.map(Outcome::revision).max().unwrap_or_default()
    }
}

fn batch(message: proto::BatchApplyProcessesRequest) -> Result<Batch, Status> {
    let mut faults = Faults::default();
    let count = message.processes.len();
    if count > BATCH_PROCESSES_MAX {
        faults.add(
            "processes",
            format!("{count}; at most {BATCH_PROCESSES_MAX}"),
        );
    }
    faults.absent(!message.groups.is_empty(), "group_budgets", "groups");
    faults.absent(message.rolling.is_some(), "rolling", "rolling");
    let rollout = request::rollout(message.rollout, &mut faults);
    let then = request::then(message.wait.as_ref(), &mut faults);
    let mut drafts: Vec<Draft> = Vec::with_capacity(count);
    let mut seen = HashSet::new();
    for (i, process) in message.processes.into_iter().enumerate() {
        let mut item = Faults::below(format!("processes[{i}]."));
        if !process.etag.is_empty() {
            item.add(
                "etag",
                "is not checked in a batch; leave it out or use ApplyProcess",
            );
        }
        if let Some(draft) = process::draft_into(process, &mut item) {
            item.name_missing(&draft.name);
            if !seen.insert(draft.name.clone()) {
                item.add("name", format!("{} is listed twice; keep one", draft.name));
            }
            drafts.push(draft);
        }
        faults.absorb(item);
    }
    faults.finish(())?;
    let prune = message.prune_selector.as_ref();
    Ok(Batch {
        drafts,
        prune: prune
            .map(|selector| selector::filter_at("prune_selector", Some(selector)))
            .transpose()?,
        rollout,
        then,
        validate_only: message.validate_only,
    })
}

/// `None` only with a fault or an absence noted.
fn action(number: i32, faults: &mut Faults) -> Option<Control> {
    match faults.known("action", number)? {
        ControlAction::Unspecified => {
            faults.add("action", "is required: what to do");
            None
        }
        ControlAction::Start => Some(Control::Start),
        ControlAction::Stop => Some(Control::Stop(StopPolicy::default())),
        ControlAction::Restart => Some(Control::Restart(StopPolicy::default())),
        ControlAction::Reload => {
            faults.absent(true, "reload", "action");
            None
        }
        ControlAction::Pause => Some(Control::Pause),
        ControlAction::Resume => Some(Control::Resume),
        ControlAction::Reset => Some(Control::Reset),
    }
}

fn apply_result(
    name: ProcessName,
    result: Result<(Done, WaitOutcome), Status>,
) -> proto::BatchItemResult {
    let status = Some(item_status(result.as_ref().map(|_| ())));
    let name = name.as_str().to_owned();
    let Ok((done, wait_outcome)) = result else {
        return proto::BatchItemResult {
            name,
            status,
            ..Default::default()
        };
    };
    let (outcome, plan) = done.configured.unzip();
    let outcome = outcome.unwrap_or_default();
    proto::BatchItemResult {
        name,
        outcome: outcome.into(),
        status,
        revision: if outcome == ApplyOutcome::Unchanged {
            0
        } else {
            done.position.revision.get()
        },
        plan,
        wait_outcome: wait_outcome.into(),
    }
}

fn control_result(
    name: &ProcessName,
    result: Result<(Done, WaitOutcome), Status>,
) -> proto::ControlItemResult {
    let status = Some(item_status(result.as_ref().map(|_| ())));
    let (revision, outcome) = match result {
        Ok((done, outcome)) => (done.position.revision.get(), outcome),
        Err(_) => (0, WaitOutcome::Unspecified),
    };
    proto::ControlItemResult {
        name: name.as_str().to_owned(),
        status,
        wait_outcome: outcome.into(),
        revision,
    }
}
