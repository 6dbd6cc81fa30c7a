//! What every call has: a caller, a deadline, perhaps an id; and how a write is
//! carried out once and then waited for.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tonic::{Request, Status};

use super::{ProcessManagerService, Shared, earlier::Earlier};
use crate::{
    domain::{
        id::{ProcessName, Revision, Uid},
        status::{Caller, Cause, Once, Origin, Position},
    },
    grpc::{
        auth::Principal,
        convert::{Unacceptable, request::Then},
        dedupe::{Failure, Key, Outcome},
        proto::{self, WaitOutcome},
        schema, status,
    },
    store,
    supervisor::{Ack, Configured, ProcessNode, Refused, WaitFor},
};

/// Who calls, until when, and which write it is.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Empty where nothing authenticates callers.
    pub(super) principal: Arc<str>,
    pub(super) deadline: Option<Instant>,
}

/// A write that is to be carried out once.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) call: Call,
    pub(super) cause: Cause,
    key: Option<Key>,
    digest: u64,
}

/// What is remembered of a write to one process: enough to answer a repetition.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) name: ProcessName,
    /// `None`: nothing was created, because it was only validated.
    pub(super) uid: Option<Uid>,
    pub(super) position: Position,
    pub(super) configured: Option<(proto::ApplyOutcome, proto::ChangePlan)>,
}

// === impl Call ===

impl Call {
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let principal = request.extensions().get::<Principal>();
        let asked = request.metadata().get("grpc-timeout");
        let timeout = asked.and_then(|text| timeout(text.to_str().ok()?));
        Self {
            principal: principal.map_or_else(|| Arc::from(""), |p| Arc::clone(&p.0)),
            deadline: timeout.and_then(|after| Instant::now().checked_add(after)),
        }
    }

    /// A write under `request_id`, if that is not empty. `content` is the whole
    /// request, `message` its name in the contract.
    pub(super) fn write(
        self,
        method: &'static str,
        request_id: &str,
        content: &impl prost::Message,
    ) -> Result<Write, Unacceptable> {
        let mut caller = Caller {
            principal: (&*self.principal).into(),
            request_id: request_id.into(),
            once: None,
        };
        let mut key = None;
        let mut digest = 0;
        if !request_id.is_empty() {
            let id = uuid::Uuid::try_parse(request_id)
                .map_err(|_| Unacceptable::field("request_id", "must be a UUID"))?;
            key = Some(Key {
                principal: Arc::clone(&self.principal),
                method: method.into(),
                id,
            });
            digest = schema::digest(&format!(".procession.v1.{method}Request"), content);
            caller.once = Some(Once { method, digest });
        }
        let cause = Cause {
            origin: Origin::Api,
            caller: Some(Arc::new(caller)),
        };
        Ok(Write {
            call: self,
            cause,
            key,
            digest,
        })
    }
}

/// The value of a `grpc-timeout` header.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

// === impl Write ===

impl Write {
    /// A write that only validates is not remembered: nothing is carried out.
    pub(super) fn unless(mut self, validate_only: bool) -> Self {
        if validate_only {
            self.key = None;
        }
        self
    }
}

// === impl Done ===

impl Outcome for Done {
    fn revision(&self) -> i64 {
        self.position.revision.get()
    }
}

impl From<Ack> for Done {
    fn from(ack: Ack) -> Self {
        Self {
            name: ack.node.body().name().clone(),
            uid: Some(ack.node.uid()),
            position: ack.position,
            configured: None,
        }
    }
}

impl Done {
    /// What an earlier run of the daemon did. The state that it led to is told, not
    /// how it came about.
    pub(super) fn remembered(request: &store::Request, revision: Revision) -> Self {
        Self {
            name: request.name.clone(),
            uid: Some(request.uid),
            position: Position {
                revision,
                run_id: request.run_id,
            },
            configured: None,
        }
    }

    pub(super) fn configured(name: ProcessName, done: &Configured) -> Self {
        use crate::grpc::convert::outcome;
        Self {
            name,
            uid: done.node.as_ref().map(|node| node.uid()),
            position: done.position,
            configured: Some((outcome::outcome(done.outcome), outcome::plan(done))),
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Remembers what an earlier run of the daemon carried out.
    pub(super) fn remember(&mut self, request: &store::Request) {
        let key = Key {
            principal: Arc::from(&*request.principal),
            method: request.method.clone(),
            id: uuid::Uuid::from_bytes(request.id),
        };
        let head = self.setup.supervisor.registry().head();
        let done = Done::remembered(request, head.min(request.revision));
        if request.method.starts_with("Batch") {
            self.earlier
                .add(key, request.fingerprint, request.time, done);
            return;
        }
        let now = self.setup.clock.now().wall;
        let age = u64::try_from(now.0.saturating_sub(request.time.0)).unwrap_or(0);
        let age = Duration::from_nanos(age);
        self.dedupe.remember(key, request.fingerprint, &done, age);
    }
}

// === impl ProcessManagerService ===

impl ProcessManagerService {
    /// Fails unless `epoch` is empty or this daemon run's.
    pub(super) fn check_epoch(&self, subject: &str, epoch: &str) -> Result<(), Status> {
        if epoch.is_empty() || *epoch == *self.epoch() {
            return Ok(());
        }
        Err(status::mismatch(subject, "epoch", epoch, self.epoch()))
    }

    /// What an earlier run of the daemon did of this batch.
    pub(super) fn earlier(&self, write: &Write) -> Result<Option<Earlier>, Status> {
        let now = self.setup().clock.now().wall;
        self.shared
            .earlier
            .find(write.key.as_ref(), write.digest, now)
    }

    /// Carries out `work` once per request id.
    pub(super) async fn once<T: Outcome>(
        &self,
        write: &Write,
        work: impl Future<Output = Result<T, Refused>> + Send + 'static,
    ) -> Result<T, Status> {
        let done = self
            .shared
            .dedupe
            .once(write.key.clone(), write.digest, work);
        done.await.map_err(|failure| match failure {
            Failure::Failed(refused) => self.refused(&refused),
            Failure::Reused { first_revision } => status::request_id_reused(first_revision),
            Failure::Lost => {
                let id = write.key.as_ref().map(|key| key.id.to_string());
                tracing::error!(request_id = id, "a request panicked");
                status::internal(&id.unwrap_or_default())
            }
        })
    }

    /// Waits for what follows from `done`, and tells the state then.
    pub(super) async fn settle(
        &self,
        call: &Call,
        done: &Done,
        then: Then,
    ) -> Result<(WaitOutcome, Option<ProcessNode>), Status> {
        let mut node = None;
        let mut outcome = WaitOutcome::Unspecified;
        if let (Some(condition), Some(uid)) = (then.condition, done.uid) {
            let wait = WaitFor {
                name: done.name.clone(),
                uid: Some(uid),
                condition,
                run_id: done.position.run_id,
                from: done.position.revision,
            };
            (outcome, node) = self.wait(call, wait, then.timeout).await?;
        }
        Ok((outcome, node.or_else(|| self.now(done))))
    }

    /// The state of the incarnation that `done` is about, as it is now.
    pub(super) fn now(&self, done: &Done) -> Option<ProcessNode> {
        let node = self.supervisor().registry().get(done.name.as_str())?;
        (Some(node.uid()) == done.uid).then_some(node)
    }

    /// Waits, bounded by `timeout` and by the deadline of the call.
    pub(super) async fn wait(
        &self,
        call: &Call,
        wait: WaitFor,
        timeout: Duration,
    ) -> Result<(WaitOutcome, Option<ProcessNode>), Status> {
        let end = Instant::now() + timeout;
        let deadline = call.deadline.filter(|deadline| *deadline < end);
        let waited = timeout_at(deadline.unwrap_or(end), self.supervisor().wait(wait)).await;
        match waited {
            Ok(Ok(result)) if result.satisfied => Ok((WaitOutcome::Satisfied, result.node)),
            Ok(Ok(result)) => Ok((WaitOutcome::Unsatisfiable, result.node)),
            Ok(Err(refused)) => Err(self.refused(&refused)),
            Err(_) if deadline.is_some() => Err(status::deadline()),
            Err(_) => Ok((WaitOutcome::TimedOut, None)),
        }
    }

    /// Header of a read of `node`: never older than what was published before.
    pub(super) fn read_header(
        &self,
        before: Revision,
        node: &ProcessNode,
    ) -> Option<proto::ResponseHeader> {
        self.header(before.max(node.revision()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_the_protocol_are_read() {
        let table = [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("7u", Some(Duration::from_micros(7))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("5s", None),
            ("123456789S", None),
            ("5\u{e9}", None),
        ];
        for (text, expected) in table {
            assert_eq!(timeout(text), expected, "{text:?}");
        }
    }
}
