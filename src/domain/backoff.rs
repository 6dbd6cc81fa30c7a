//! How long to wait before the next run.

use std::time::Duration;

use super::spec::RestartPolicy;

/// Delay before restart number `attempt` (from 1) of an unstable streak:
/// exponential from the policy's first delay to its largest, of which the jitter
/// share is random. `entropy` supplies the randomness; jitter never lengthens.
#[must_use]
pub fn delay(policy: &RestartPolicy, attempt: u32, entropy: u64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(62);
    let nanos = u64::try_from(policy.initial_backoff().as_nanos()).unwrap_or(u64::MAX);
    let cap = u64::try_from(policy.max_backoff().as_nanos()).unwrap_or(u64::MAX);
    let full = nanos.saturating_mul(1 << doublings).min(cap);
    #[allow(
        clippy::cast_precision_loss,
        reason = "a jitter fraction needs no 64 bits"
    )]
    let fraction = (entropy >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::from_nanos(full).mul_f64(1.0 - policy.jitter_ratio().clamp(0.0, 1.0) * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let policy = RestartPolicy {
            jitter_ratio: Some(0.0),
            ..RestartPolicy::default()
        };
        let millis = |attempt| delay(&policy, attempt, u64::MAX).as_millis();
        assert_eq!([1, 2, 3, 4].map(millis), [100, 200, 400, 800]);
        assert_eq!(
            [9, 10, 64, u32::MAX].map(millis),
            [25_600, 30_000, 30_000, 30_000]
        );
    }

    proptest! {
        #[test]
        fn jitter_only_shortens_and_by_its_share_at_most(
            attempt in 1_u32..100, entropy: u64, ratio in 0.0_f64..=1.0,
        ) {
            let with = RestartPolicy { jitter_ratio: Some(ratio), ..RestartPolicy::default() };
            let without = RestartPolicy { jitter_ratio: Some(0.0), ..RestartPolicy::default() };
            let (jittered, full) = (delay(&with, attempt, entropy), delay(&without, attempt, 0));
            prop_assert!(jittered <= full);
            prop_assert!(jittered + Duration::from_nanos(2) >= full.mul_f64(1.0 - ratio));
        }
    }
}
