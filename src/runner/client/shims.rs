//! How the shims of a run come and go: one is started with it, another one for
//! each that dies, as long as they do not die without a word.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Client, DEATHS_MAX, DEATHS_WITHIN, LOOKS, PAUSE_MAX, PAUSE_MIN, Phase, SILENCE_MAX, Wishes,
};
use crate::{
    domain::run::{RunEvent, SpawnError},
    runner::{
        SignalError,
        connection::Connection,
        look::{Found, look},
        recovery::{Lost, MainProcess, Round},
        remove,
        spawner::{self, Notice, Spawn, Task},
    },
    shim::{record::RunRecord, rundir::RunDir, sys},
};

// === impl Client ===

impl Client {
    pub(super) fn spawn(&mut self, task: Task) {
        self.phase = Phase::Starting;
        self.asks.push_back(spawner::Request::Spawn(Box::new(Spawn {
            program: Arc::clone(&self.means.program),
            shim_env: self.means.shim_env.clone(),
            path: self.means.path.clone(),
            task,
            notices: self.notices.clone(),
        })));
    }

    pub(super) fn look_after(&mut self, pause: Duration) {
        let path = self.means.path.clone();
        self.phase = Phase::Looking;
        self.looking = Some(Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            // It is never closed.
            let _turn = LOOKS.acquire().await;
            let looking = tokio::task::spawn_blocking(move || {
                let found = look(&path);
                if matches!(found, Found::NotBegun) {
                    remove(&path);
                }
                found
            });
            looking.await.unwrap_or(Found::Busy)
        }));
    }

    /// Later than the last time.
    pub(super) fn look_later(&mut self) {
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.look_after(self.pause);
    }

    pub(super) fn found(&mut self, found: Found, wishes: &mut Wishes) {
        self.looking = None;
        match found {
            Found::NotBegun => self.not_begun(),
            Found::Over(exit) => {
                self.event(RunEvent::Exited(exit));
                self.event(RunEvent::Empty);
            }
            Found::Shim { ctl, record } => {
                self.record = record.or(self.record.take());
                match Connection::meet(ctl) {
                    Ok(connection) => self.connected(connection, wishes),
                    Err(error) => {
                        tracing::error!(name = %self.means.name, %error, "cannot watch a shim's socket");
                        self.look_later();
                    }
                }
            }
            Found::Busy => self.look_later(),
            Found::Orphaned { dir, record } => self.adopt(dir, record),
            Found::Damaged(error) => {
                tracing::error!(name = %self.means.name, %error, "a run that cannot be taken over is killed");
                self.clear();
            }
            Found::Failed(error) => {
                tracing::error!(name = %self.means.name, %error, "a run cannot be looked at; trying again");
                if !self.silence_told {
                    let soon = Instant::now() + SILENCE_MAX;
                    self.silent_until.get_or_insert(soon);
                }
                self.look_later();
            }
        }
    }

    pub(super) fn not_begun(&mut self) {
        if self.main.is_some() && !self.exit_told {
            // Somebody has removed the directory of a run that lives.
            self.clear();
            return;
        }
        if self.adopts {
            self.event(RunEvent::NotBegun);
        } else {
            let error = SpawnError {
                errno: 0,
                message: "the shim ended before it started the program".into(),
            };
            self.event(RunEvent::Exited(sys::spawn_error_exit(error)));
            self.event(RunEvent::Empty);
        }
    }

    /// Its shim is dead: another one takes its place.
    pub(super) fn adopt(&mut self, dir: RunDir, record: RunRecord) {
        let wordless = self.deaths.iter().filter(|(_, wordless)| *wordless);
        if wordless.count() >= DEATHS_MAX {
            tracing::error!(name = %self.means.name, "shim after shim of a run dies; the run is killed");
            self.learn(&record);
            self.clear();
            return;
        }
        tracing::warn!(name = %self.means.name, "a run without a shim gets another one");
        self.learn(&record);
        let kept = Arc::clone(&self.kept);
        self.spawn(Task::Adopt(dir, kept));
    }

    pub(super) fn learn(&mut self, record: &RunRecord) {
        self.main.get_or_insert(MainProcess {
            identity: record.main,
            started: record.started,
        });
        self.cgroup.clone_from(&record.cgroup);
        self.kill_timeout = record.stop.kill_timeout;
        self.record = Some(record.clone());
    }

    pub(super) fn connected(&mut self, connection: Connection, wishes: &mut Wishes) {
        self.phase = Phase::Connected;
        self.connection = Some(connection);
        self.answered = false;
        self.silent_until = Some(Instant::now() + SILENCE_MAX);
        self.keep_output(wishes);
        self.stop(wishes);
    }

    pub(super) fn report_silence(&mut self) {
        self.silent_until = None;
        tracing::warn!(name = %self.means.name, "the shim of a run does not answer");
        let told = std::mem::replace(&mut self.silence_told, true);
        if self.adopts && !self.begun_told && !self.exit_told && !told {
            self.event(RunEvent::Unresponsive(SILENCE_MAX));
        }
    }

    pub(super) fn notice(&mut self, notice: Notice, wishes: &mut Wishes) {
        match notice {
            Notice::Spawned { shim_pid, ctl } => {
                self.shim_pid = shim_pid;
                match Connection::new(ctl) {
                    Ok(connection) => self.connected(connection, wishes),
                    Err(error) => {
                        tracing::error!(name = %self.means.name, %error, "cannot watch a shim's socket");
                        self.look_after(PAUSE_MIN);
                    }
                }
            }
            Notice::SpawnFailed(error) if self.main.is_some() => {
                let error = &error.message;
                tracing::error!(name = %self.means.name, %error, "a run without a shim waits for one");
                self.look_later();
            }
            Notice::SpawnFailed(error) => {
                self.event(RunEvent::Exited(sys::spawn_error_exit(error)));
                self.event(RunEvent::Empty);
            }
            Notice::ShimEnded(pid) if pid == self.shim_pid && self.phase == Phase::Connected => {
                // A child that never got to exec may still hold the socket open,
                // so its end is no sign.
                self.read_rest();
                self.broken();
            }
            Notice::ShimEnded(_) => {} // known already
            Notice::Event(event) => {
                self.event(event);
                if self.empty_waits && self.exit_told {
                    self.event(RunEvent::Empty);
                }
            }
        }
    }

    /// The shim is gone, and it is not known whether the run is.
    pub(super) fn broken(&mut self) {
        if self.phase != Phase::Connected {
            return;
        }
        self.close(SignalError::Refused(libc::EAGAIN));
        let now = Instant::now();
        self.deaths.push_back((now, !self.answered));
        self.deaths
            .retain(|(at, _)| now.duration_since(*at) < DEATHS_WITHIN);
        // The first ones are replaced at once.
        let many = u32::try_from(self.deaths.len().saturating_sub(DEATHS_MAX)).unwrap_or(0);
        let pause = PAUSE_MIN * (1 << many.min(6));
        self.pause = PAUSE_MIN;
        self.look_after(if many == 0 { Duration::ZERO } else { pause });
    }

    pub(super) fn close(&mut self, error: SignalError) {
        self.connection = None;
        self.silent_until = None;
        for (_, answer) in self.answers.drain(..) {
            answer.refuse(error);
        }
    }

    /// Hands the run over to be killed.
    pub(super) fn clear(&mut self) {
        self.close(SignalError::Gone);
        self.phase = Phase::Clearing;
        self.release(false);
        let lost = Lost {
            shim_pid: self.shim_pid,
            main: self.main,
            exit_told: self.exit_told,
            cgroup: self.cgroup.clone(),
            kill_timeout: self.kill_timeout,
            notices: self.notices.clone(),
            round: Round::default(),
        };
        let recover = spawner::Request::Recover(Box::new(lost));
        self.asks.push_back(recover);
    }

    /// The main process may be reaped, if it is our child by now. `tell`: how it
    /// ended is to come as an event, because its shim could not tell.
    pub(super) fn release(&mut self, tell: bool) {
        if let Some(main) = self.main {
            self.asks.push_back(spawner::Request::Release {
                main,
                tell: tell.then(|| self.notices.clone()),
            });
        }
    }
}
