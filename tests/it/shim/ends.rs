//! How runs end by themselves, and how they fail to begin.

use procession::domain::run::Outcome;

use super::support::*;

#[tokio::test]
async fn exit_codes_are_told() {
    for code in [0, 3, 255] {
        let (outcome, _) = outcome(launch(&["sh", "-c", &format!("exit {code}")])).await;
        assert_eq!(outcome, Outcome::Code(code));
    }
}
