//! What goes to the client of an attachment.

use std::{collections::VecDeque, future::Future, io, pin::Pin, sync::Arc, time::SystemTime};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::{Status, Streaming};

use super::{
    super::{
        convert::{observed, output_stream},
        proto::{self, attach_process_response::Payload},
        status,
        stream::{self, HEARTBEAT_DEFAULT, output_unreadable},
    },
    BACKLOG_BYTES_MAX, Context, Opened, backlog,
    input::Input,
};
use crate::{
    domain::{
        id::{Revision, Uid},
        status::RunRecord,
        wait::Condition,
    },
    logs::{Attached, Entry, OutputStream, Place, Reader, Start},
    supervisor::{LiveProcess, Refused, Supervisor, WaitFor, WaitResult},
    watch::CloseReason,
};

/// Bytes of one read, and about those of one message.
const READ_BYTES: usize = 64 * 1024;

type Ending = Pin<Box<dyn Future<Output = Result<WaitResult, Refused>> + Send>>;

/// One client that is attached.
pub(super) struct Attachment {
    supervisor: Supervisor,
    epoch: String,
    heads: Option<watch::Receiver<Revision>>,
    closing: tokio_util::sync::CancellationToken,
    live: LiveProcess,
    reader: Reader,
    slot: usize,
    wants: [bool; 2],
    input: Input,
    input_over: bool,
    // BOUND: what one read gives.
    outbox: VecDeque<Payload>,
    heartbeat_at: Instant,
    phase: Phase,
}

enum Phase {
    /// Until its main process has ended.
    Running(Ending),
    /// Until nobody is left who could write.
    Leaving(Arc<RunRecord>),
    /// What was written up to here is to be told before the exit.
    Reading(Place, Arc<RunRecord>),
    Over(Option<Status>),
}

// === impl Attachment ===

impl Attachment {
    pub(super) fn open(
        context: Context,
        opened: Opened,
        requests: Streaming<proto::AttachProcessRequest>,
    ) -> Result<Self, Status> {
        let Opened { live, stdin, open } = opened;
        let Context {
            supervisor,
            epoch,
            heads,
            closing,
        } = context;
        let (uid, run_id) = (live.node().uid(), live.run_id());
        let mut reader = supervisor.logs().reader();
        let Some(Attached { slot, end, .. }) = reader
            .attach(uid, Start::End)
            .map_err(|error| output_unreadable(&error))?
        else {
            let name = live.node().body().spec.name.as_str();
            return Err(status::not_found([name]));
        };
        let bytes = open.backlog_bytes.clamp(0, BACKLOG_BYTES_MAX);
        let bytes = usize::try_from(bytes).unwrap_or(0);
        let replayed = if bytes == 0 {
            VecDeque::new()
        } else {
            backlog::replay(&mut reader, slot, end, run_id, bytes)
                .map_err(|e| output_unreadable(&e))?
        };
        let ending = ending(&supervisor, &live, uid);
        let input = Input::new(live.clone(), stdin, epoch.clone(), requests);
        let mut attachment = Self {
            supervisor,
            epoch,
            heads: Some(heads),
            closing,
            reader,
            slot,
            wants: [open.stdout, open.stderr],
            input,
            input_over: false,
            outbox: VecDeque::new(),
            heartbeat_at: Instant::now() + HEARTBEAT_DEFAULT,
            phase: Phase::Running(ending),
            live,
        };
        attachment.tell_opened();
        attachment.tell(replayed);
        attachment.reader.requeue(slot);
        Ok(attachment)
    }

    fn tell_opened(&mut self) {
        let state = self.live.node().body();
        let status = &state.status;
        self.outbox.push_back(Payload::Opened(proto::AttachOpened {
            run_id: status.run_id,
            pid: status.pid,
            tty: state.spec.config.stdio.tty,
        }));
    }

    /// The next message; `None` after the end.
    pub(super) async fn next(&mut self) -> Option<Result<Payload, Status>> {
        loop {
            if let Some(payload) = self.outbox.pop_front() {
                self.heartbeat_at = Instant::now() + HEARTBEAT_DEFAULT;
                return Some(Ok(payload));
            }
            if let Phase::Over(status) = &mut self.phase {
                return status.take().map(Err);
            }
            if self.closing.is_cancelled() {
                self.close();
            } else if Instant::now() >= self.heartbeat_at {
                self.outbox
                    .push_back(Payload::Progress(proto::WatchProgress {
                        server_time: Some(SystemTime::now().into()),
                    }));
            } else if self.read_ready() {
                tokio::task::yield_now().await;
            } else {
                self.wait().await;
            }
        }
    }

    fn close(&mut self) {
        let reason = CloseReason::Shutdown;
        self.outbox
            .push_back(Payload::Closing(stream::closing(reason)));
        self.phase = Phase::Over(Some(stream::closed(reason)));
    }

    /// Reads what there is. `false` if there was nothing to read.
    fn read_ready(&mut self) -> bool {
        if let Phase::Reading(end, record) = &self.phase {
            let (end, record) = (*end, Arc::clone(record));
            match self.read(end) {
                Ok(true) => {}
                Ok(false) => {
                    self.outbox
                        .push_back(Payload::Exit(observed::exit(&record)));
                    self.phase = Phase::Over(None);
                }
                Err(error) => self.phase = Phase::Over(Some(output_unreadable(&error))),
            }
            return true;
        }
        if self.reader.next_ready().is_none() {
            return false;
        }
        // Up to the end of now, and so to the last byte of a line that goes on.
        let read = self
            .reader
            .end(self.slot)
            .and_then(|end| self.read(end.place));
        match read {
            Ok(true) => self.reader.requeue(self.slot),
            Ok(false) => {}
            // It is tried again when the reader says so.
            Err(error) => tracing::debug!(%error, "captured output cannot be read now"),
        }
        true
    }

    /// `true` if there is more before `end`.
    fn read(&mut self, end: Place) -> io::Result<bool> {
        let batch = self.reader.read(self.slot, READ_BYTES, end)?;
        for gap in batch.gaps {
            self.outbox
                .push_back(Payload::OutputLost(proto::AttachOutputLost {
                    lost_bytes: gap.lost_bytes,
                }));
        }
        self.tell(batch.entries);
        Ok(batch.more)
    }

    /// Bytes as they were written, in messages of one stream each.
    fn tell(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let run_id = self.live.run_id();
        let mut gathered: Option<(OutputStream, BytesMut)> = None;
        for entry in entries {
            let wanted = match entry.stream {
                OutputStream::Stdout => self.wants[0],
                OutputStream::Stderr => self.wants[1],
            };
            if !wanted || entry.run_id != run_id {
                continue;
            }
            let full = |(stream, bytes): &(OutputStream, BytesMut)| {
                *stream != entry.stream || bytes.len() >= READ_BYTES
            };
            if let Some((stream, bytes)) = gathered.take_if(|gathered| full(gathered)) {
                self.tell_output(stream, bytes.freeze());
            }
            let (_, bytes) = gathered.get_or_insert_with(|| (entry.stream, BytesMut::new()));
            bytes.extend_from_slice(&entry.data);
            if !entry.partial {
                bytes.extend_from_slice(b"\n");
            }
        }
        if let Some((stream, bytes)) = gathered {
            self.tell_output(stream, bytes.freeze());
        }
    }

    fn tell_output(&mut self, stream: OutputStream, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.outbox.push_back(Payload::Output(proto::AttachOutput {
            stream: output_stream(stream).into(),
            data,
        }));
    }

    async fn wait(&mut self) {
        let heads = &mut self.heads;
        let changed = async {
            match heads {
                Some(heads) => heads.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let leaving = matches!(self.phase, Phase::Leaving(_));
        let mut over = None;
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = self.reader.ready() => {}
            () = sleep_until(self.heartbeat_at) => {}
            failure = &mut self.input.failure, if !self.input_over => {
                self.input_over = true;
                over = failure.ok();
            }
            result = ended(&mut self.phase) => return self.ended(result),
            _ = changed, if leaving => self.see_end(),
        }
        if let Some(status) = over {
            self.phase = Phase::Over(Some(status));
        }
    }

    /// The main process has ended, or will never be seen to.
    fn ended(&mut self, result: Result<WaitResult, Refused>) {
        let run_id = self.live.run_id();
        let record = match result {
            Ok(WaitResult { node, .. }) => node.and_then(|node| {
                let history = &node.body().status.details.history;
                history
                    .iter()
                    .find(|record| record.run_id == run_id)
                    .cloned()
            }),
            Err(refused) => {
                self.phase = Phase::Over(Some(status::refused(&refused, &self.epoch)));
                return;
            }
        };
        self.phase = match record {
            Some(record) => Phase::Leaving(record),
            None => Phase::Over(Some(status::not_found([self
                .live
                .node()
                .body()
                .spec
                .name
                .as_str()]))),
        };
        self.see_end();
    }

    /// Whether all that came from the main process is gone, too.
    fn see_end(&mut self) {
        let Phase::Leaving(record) = &self.phase else {
            return;
        };
        let (node, run_id) = (self.live.node(), self.live.run_id());
        let name = node.body().spec.name.as_str();
        let now = self.supervisor.registry().get(name);
        let lives = now.is_some_and(|now| {
            let status = &now.body().status;
            now.uid() == node.uid() && status.run_id == run_id && status.state.is_alive()
        });
        if lives {
            return;
        }
        let record = Arc::clone(record);
        self.phase = match self.reader.end(self.slot) {
            Ok(end) => Phase::Reading(end.place, record),
            Err(error) => Phase::Over(Some(output_unreadable(&error))),
        };
    }
}

fn ending(supervisor: &Supervisor, live: &LiveProcess, uid: Uid) -> Ending {
    let wait = WaitFor {
        name: live.node().body().spec.name.clone(),
        uid: Some(uid),
        condition: Condition::Exited,
        run_id: live.run_id(),
        from: live.node().revision(),
    };
    let supervisor = supervisor.clone();
    Box::pin(async move { supervisor.wait(wait).await })
}

async fn ended(phase: &mut Phase) -> Result<WaitResult, Refused> {
    match phase {
        Phase::Running(ending) => ending.await,
        _ => std::future::pending().await,
    }
}
