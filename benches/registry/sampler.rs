//! Takes both sides of a ratio in turn.

use std::fmt::Write;

const ROUNDS: usize = 41;
const ROUND_NS: f64 = 3e6;

pub(crate) struct Sampler {
    smoke: bool,
}

/// Medians of one case, in the unit of the case.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) ours: f64,
    pub(crate) baseline: f64,
    pub(crate) ratio: f64,
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) operation: &'static str,
    pub(crate) against: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) sample: Sample,
    /// Largest ratio allowed, and hoped for; infinite for a row that only informs.
    pub(crate) must: f64,
    pub(crate) aim: f64,
}

impl Sampler {
    pub(crate) const fn new(smoke: bool) -> Self {
        Self { smoke }
    }

    /// `full` in a real run, little in a smoke run.
    pub(crate) const fn size(&self, full: usize) -> usize {
        if self.smoke { full / 100 } else { full }
    }

    /// Nanoseconds of CPU per iteration of two loops, in turn.
    pub(crate) fn pair(&self, mut ours: impl FnMut(u64), mut baseline: impl FnMut(u64)) -> Sample {
        self.rounds(&mut |n| cpu_time_of(|| ours(n)), &mut |n| {
            cpu_time_of(|| baseline(n))
        })
    }

    /// The same where the loops measure themselves and return nanoseconds.
    pub(crate) fn rounds(
        &self,
        ours: &mut dyn FnMut(u64) -> f64,
        baseline: &mut dyn FnMut(u64) -> f64,
    ) -> Sample {
        if self.smoke {
            let (ours, baseline) = (ours(10) / 10.0, baseline(10) / 10.0);
            return Sample {
                ours,
                baseline,
                ratio: ours / baseline,
            };
        }
        let (n_ours, n_baseline) = (calibrate(ours), calibrate(baseline));
        let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
            .map(|_| {
                let ours = ours(n_ours) / n_ours as f64;
                (ours, baseline(n_baseline) / n_baseline as f64)
            })
            .collect();
        rounds.remove(0);
        let by = |f: fn(&(f64, f64)) -> f64| median(rounds.iter().map(f).collect());
        Sample {
            ours: by(|round| round.0),
            baseline: by(|round| round.1),
            ratio: by(|round| round.0 / round.1),
        }
    }
}

impl Row {
    pub(crate) fn short(&self) -> String {
        format!("{}: {:.2}", self.operation, self.sample.ratio)
    }

    fn verdict(&self) -> &'static str {
        match self.sample.ratio {
            ratio if self.must.is_infinite() || ratio.is_nan() => "",
            ratio if ratio <= self.aim => "met, and the aim",
            ratio if ratio <= self.must => "met",
            _ => "MISSED",
        }
    }
}

/// The table in Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| operation | ours | baseline | ratio | must | aim | |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Sample {
            ours,
            baseline,
            ratio,
        } = row.sample;
        let bound = |bound: f64| match bound.is_finite() {
            true => format!("<= {bound}"),
            false => "-".into(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {ours:.2} {} | {baseline:.2} {} ({}) | {ratio:.2} | {} | {} | {} |",
            row.operation,
            row.unit,
            row.unit,
            row.against,
            bound(row.must),
            bound(row.aim),
            row.verdict(),
        );
    }
    text
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn cpu_time() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live timespec of this frame.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

pub(crate) fn cpu_time_of(run: impl FnOnce()) -> f64 {
    let start = cpu_time();
    run();
    cpu_time() - start
}

/// Iterations that take about one round.
fn calibrate(run: &mut dyn FnMut(u64) -> f64) -> u64 {
    let mut n = 1_u64;
    loop {
        let time = run(n).max(1.0);
        if time > ROUND_NS / 4.0 || n > 1 << 40 {
            return ((n as f64 * ROUND_NS / time) as u64).max(1);
        }
        n *= 4;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
