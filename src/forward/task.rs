//! One forward: follows one log and sends what is written.
//!
//! ```text
//! log -> read -> queue -> send -> position -> file
//!                  ^_______| again, after a delay that grows
//! ```
//!
//! Invariants: at most the queue is held, and nothing is read while it waits; the
//! position passes a line only after the target took it; whatever the target does,
//! nobody else waits. An order to stop lets what was written until then be sent, up
//! to a deadline.

use std::{io, time::SystemTime};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    keep::Keeper,
    limits::{BEGIN_INTERVAL, READ_BYTES_MAX, RETRY_MAX, RETRY_MIN, SAVE_INTERVAL},
    position::Position,
    queue::Queue,
    target::{Failure, Target},
    telling::Telling,
};
use crate::{
    domain::{
        backoff,
        id::Uid,
        spec::{ForwardStream, RestartPolicy},
        time::Timestamp,
    },
    logs::{Logs, OutputStream, Place, Reader, Slot, Start},
};

/// What a forward is told while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// What to send; empty: all.
    pub(super) streams: Vec<ForwardStream>,
    /// Send what is written by now, until then at most, and end.
    pub(super) stop: Option<Instant>,
    /// Whether the next daemon is to go on.
    pub(super) forget: bool,
}

/// What a forward is made of.
#[derive(Debug)]
pub(super) struct Setup<T> {
    pub(super) uid: Uid,
    /// Whether the target is as old as the process, and so gets all of its output.
    pub(super) from_the_first: bool,
    pub(super) target: T,
    pub(super) keeper: Keeper,
    pub(super) telling: Telling,
    pub(super) order: watch::Receiver<Order>,
    /// Randomness for delays.
    pub(super) entropy: fn() -> u64,
}

/// A forward, `None` if the process is gone, or why there is none yet.
pub(super) type Begun<T> = Result<Option<Forward<T>>, (io::Error, Box<Setup<T>>)>;

#[derive(Debug)]
pub(super) struct Forward<T> {
    target: T,
    reader: Reader,
    slot: Slot,
    queue: Queue,
    keeper: Keeper,
    kept: Kept,
    telling: Telling,
    order: watch::Receiver<Order>,
    /// Where the log ended when it was told to stop.
    end: Option<Place>,
    /// It has more to read than was taken.
    has_more: bool,
    entropy: fn() -> u64,
}

/// What the file has.
#[derive(Debug)]
struct Kept {
    position: Position,
    at: Instant,
    warned: bool,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    On,
    Over,
}

// === impl Forward ===

impl<T: Target> Forward<T> {
    /// Stands where an earlier one stood, else at the first line or at the end.
    ///
    /// # Errors
    /// The log cannot be read now.
    pub(super) fn begin(logs: &Logs, setup: Setup<T>) -> Begun<T> {
        let mut reader = logs.reader();
        let found = setup.keeper.load();
        let start = match found {
            Some(position) => Start::After(position.resume_after()),
            None if setup.from_the_first => Start::After(0),
            None => Start::End,
        };
        let attached = match reader.attach(setup.uid, start) {
            Ok(Some(attached)) => attached,
            Ok(None) => return Ok(None),
            Err(error) => return Err((error, Box::new(setup))),
        };
        let position = found.unwrap_or_else(|| match start {
            Start::End => Position::behind(attached.end.next_sequence - 1),
            _ => Position::default(),
        });
        reader.requeue(attached.slot);
        let mut forward = Self {
            target: setup.target,
            reader,
            slot: attached.slot,
            queue: Queue::at(position),
            keeper: setup.keeper,
            kept: Kept {
                position,
                at: Instant::now(),
                warned: false,
            },
            telling: setup.telling,
            order: setup.order,
            end: None,
            has_more: false,
            entropy: setup.entropy,
        };
        if found.is_none() {
            if start == Start::End && attached.end.next_sequence > 1 {
                forward.telling.began_at_the_end();
            }
            // Before anything is sent: a crash must not take it for new again.
            let made = forward.keeper.prepare();
            forward.write(made.and_then(|()| forward.keeper.save(&position)));
        }
        Ok(Some(forward))
    }

    /// Until it is told to stop; begins again as long as the log cannot be read.
    pub(super) async fn run(logs: Logs, mut begun: Begun<T>) {
        let mut warned = false;
        loop {
            let (error, mut setup) = match begun {
                Ok(None) => return,
                Ok(Some(forward)) => return forward.follow().await,
                Err(failed) => failed,
            };
            if !std::mem::replace(&mut warned, true) {
                setup.telling.unreadable(&error);
            }
            tokio::select! {
                () = sleep_until(Instant::now() + BEGIN_INTERVAL) => {}
                () = overdue(&mut setup.order) => return,
            }
            begun = Self::begin(&logs, *setup);
        }
    }

    async fn follow(mut self) {
        while self.step().await == Step::On {}
        let left = self.queue.len();
        if left > 0 {
            self.telling.ended_early(left);
        }
        if !self.order.borrow().forget {
            self.save();
        }
    }

    async fn step(&mut self) -> Step {
        self.note_stop();
        self.fill();
        if self.is_worth_waiting() {
            self.linger().await;
        }
        if !self.queue.is_empty() {
            return self.deliver().await;
        }
        self.save_if_due();
        if self.has_more {
            tokio::task::yield_now().await;
            return Step::On;
        }
        if self.end.is_some() {
            return Step::Over;
        }
        let save_at = self.save_at();
        tokio::select! {
            () = self.reader.ready() => Step::On,
            () = sleep_until(save_at), if self.is_dirty() => Step::On,
            changed = self.order.changed() => match changed {
                Ok(()) => Step::On,
                // Nobody is left to end it.
                Err(_) => Step::Over,
            },
        }
    }

    /// Finds out where the log ends once it is told to stop.
    fn note_stop(&mut self) {
        let is_told = self.order.borrow_and_update().stop.is_some();
        if is_told && self.end.is_none() {
            let end = self.reader.end(self.slot);
            self.end = Some(end.map_or(Place::MIN, |end| end.place));
            self.has_more = true;
        }
    }

    /// Reads once if there is room.
    fn fill(&mut self) {
        if self.queue.bytes() >= READ_BYTES_MAX || self.queue.len() >= T::LINGER.0.max(1) {
            return;
        }
        let is_ready = self.reader.next_ready().is_some();
        if !is_ready && !self.has_more {
            return;
        }
        let before = self.end.unwrap_or(Place::MAX);
        let Ok(batch) = self.reader.read(self.slot, READ_BYTES_MAX, before) else {
            // The reader has told why, and says when to try again.
            self.has_more = false;
            return;
        };
        self.has_more = batch.more;
        let now = Timestamp::from(SystemTime::now());
        for gap in batch.gaps {
            if let Some(gap) = self.queue.push_gap(gap, now) {
                self.telling.lost(&gap);
            }
        }
        let order = self.order.borrow();
        for entry in batch.entries {
            let wanted = order.streams.is_empty() || order.streams.contains(&stream(entry.stream));
            self.queue.push_entry(entry, wanted);
        }
    }

    fn is_worth_waiting(&self) -> bool {
        let (records, linger) = T::LINGER;
        !linger.is_zero()
            && self.end.is_none()
            && (1..records).contains(&self.queue.len())
            && self.queue.bytes() < READ_BYTES_MAX
    }

    /// Lets more come, up to a full batch or a short while.
    async fn linger(&mut self) {
        let until = Instant::now() + T::LINGER.1;
        while self.is_worth_waiting() {
            if self.has_more {
                self.fill();
                continue;
            }
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.reader.ready() => self.fill(),
                _ = self.order.changed() => {
                    self.order.mark_changed();
                    return;
                }
            }
        }
    }

    /// Sends until the queue is empty, however long that takes.
    async fn deliver(&mut self) -> Step {
        let mut attempt = 0;
        while !self.queue.is_empty() {
            let before = self.queue.len();
            let sent = tokio::select! {
                sent = self.target.send(&mut self.queue) => sent,
                () = overdue(&mut self.order) => return Step::Over,
            };
            let (refused, why) = self.queue.take_refused();
            self.telling.refused(refused, &why);
            self.save_if_due();
            if self.queue.len() < before {
                attempt = 0;
            }
            let Err(failure) = sent else {
                self.telling.succeeded();
                tokio::task::yield_now().await;
                continue;
            };
            attempt += 1;
            self.telling.failed(&failure);
            let delay = self.delay(&failure, attempt);
            tokio::select! {
                () = sleep_until(Instant::now() + delay) => {}
                () = overdue(&mut self.order) => return Step::Over,
            }
        }
        Step::On
    }

    fn delay(&self, failure: &Failure, attempt: u32) -> std::time::Duration {
        let policy = RestartPolicy {
            initial_backoff: Some(RETRY_MIN),
            max_backoff: Some(RETRY_MAX),
            jitter_ratio: Some(0.5),
            ..RestartPolicy::default()
        };
        match failure.retry_after {
            Some(asked) => asked.clamp(RETRY_MIN, RETRY_MAX),
            None => backoff::delay(&policy, attempt, (self.entropy)()),
        }
    }
}

// === impl Forward: the position ===

impl<T: Target> Forward<T> {
    fn is_dirty(&self) -> bool {
        self.queue.position() != self.kept.position
    }

    fn save_at(&self) -> Instant {
        self.kept.at + SAVE_INTERVAL
    }

    fn save_if_due(&mut self) {
        if Instant::now() >= self.save_at() && !self.order.borrow().forget {
            self.save();
        }
    }

    fn save(&mut self) {
        if self.is_dirty() {
            self.write(self.keeper.save(&self.queue.position()));
        }
    }

    fn write(&mut self, written: io::Result<()>) {
        self.kept.at = Instant::now();
        match written {
            Ok(()) => {
                self.kept.position = self.queue.position();
                self.kept.warned = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.kept.warned, true) {
                    self.telling.not_kept(&error);
                }
            }
        }
    }
}

/// Until the deadline of an order to stop has passed, or nobody gives orders.
async fn overdue(order: &mut watch::Receiver<Order>) {
    loop {
        let stop = order.borrow_and_update().stop;
        let late = async {
            match stop {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = late => return,
            changed = order.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

fn stream(stream: OutputStream) -> ForwardStream {
    match stream {
        OutputStream::Stdout => ForwardStream::Stdout,
        OutputStream::Stderr => ForwardStream::Stderr,
    }
}
