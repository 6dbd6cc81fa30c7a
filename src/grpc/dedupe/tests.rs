//! Once, and only once, on a paused clock.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct At(i64);

impl Outcome for At {
    fn revision(&self) -> i64 {
        self.0
    }
}

fn key(id: u128) -> Key {
    Key {
        principal: "uid:0".into(),
        method: "StartProcess".into(),
        id: uuid::Uuid::from_u128(id),
    }
}

/// Counts how often it is carried out.
async fn count(counter: Arc<AtomicI64>) -> Result<At, &'static str> {
    Ok(At(counter.fetch_add(1, Ordering::Relaxed) + 1))
}

#[tokio::test(start_paused = true)]
async fn a_repetition_gets_the_first_outcome_until_it_is_forgotten() {
    let (dedupe, counter) = (Arc::new(Dedupe::default()), Arc::default());
    let again = |id| dedupe.once(Some(key(id)), 5, count(Arc::clone(&counter)));
    assert_eq!(again(1).await, Ok(At(1)));
    tokio::time::advance(RETENTION - Duration::from_secs(1)).await;
    assert_eq!(again(1).await, Ok(At(1)));
    assert_eq!(again(2).await, Ok(At(2)));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(again(1).await, Ok(At(3)));
    assert_eq!(again(2).await, Ok(At(2)));
}

#[tokio::test]
async fn principal_and_method_are_part_of_the_id() {
    let (dedupe, counter) = (Arc::new(Dedupe::default()), Arc::default());
    let mut other = key(1);
    other.principal = "uid:1".into();
    let mut stop = key(1);
    stop.method = "StopProcess".into();
    for (at, key) in [(1, key(1)), (2, other), (3, stop)] {
        assert_eq!(
            dedupe.once(Some(key), 5, count(Arc::clone(&counter))).await,
            Ok(At(at))
        );
    }
    let none = dedupe.once(None, 5, count(Arc::clone(&counter))).await;
    assert_eq!(none, Ok(At(4)));
}

#[tokio::test]
async fn other_content_under_the_same_id_is_refused() {
    let (dedupe, counter) = (Arc::new(Dedupe::default()), Arc::default());
    dedupe
        .once(Some(key(1)), 5, count(Arc::clone(&counter)))
        .await
        .unwrap();
    let other = dedupe
        .once(Some(key(1)), 6, count(Arc::clone(&counter)))
        .await;
    let first_revision = Some(1);
    assert_eq!(other, Err(Failure::Reused { first_revision }));
}

#[tokio::test]
async fn a_failure_is_not_remembered() {
    let dedupe = Arc::new(Dedupe::default());
    let failing = async { Err::<At, _>("no") };
    let failed = dedupe.once(Some(key(1)), 5, failing).await;
    assert_eq!(failed, Err(Failure::Failed("no")));
    assert_eq!(
        dedupe.once(Some(key(1)), 6, count(Arc::default())).await,
        Ok(At(1))
    );
}

#[tokio::test]
async fn concurrent_repetitions_wait_for_the_first_even_if_its_caller_is_gone() {
    let (dedupe, counter) = (Arc::new(Dedupe::default()), Arc::new(AtomicI64::new(0)));
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (entered, go, counter) = (Arc::clone(&entered), Arc::clone(&go), Arc::clone(&counter));
        async move {
            entered.notify_one();
            go.notified().await;
            count(counter).await
        }
    };
    let first = tokio::spawn({
        let dedupe = Arc::clone(&dedupe);
        async move { dedupe.once(Some(key(1)), 5, slow).await }
    });
    entered.notified().await;
    let other = dedupe
        .once(Some(key(1)), 6, count(Arc::clone(&counter)))
        .await;
    assert_eq!(
        other,
        Err(Failure::Reused {
            first_revision: None
        })
    );
    first.abort();
    let mut repetitions = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (dedupe, counter) = (Arc::clone(&dedupe), Arc::clone(&counter));
        repetitions.spawn(async move { dedupe.once(Some(key(1)), 5, count(counter)).await });
    }
    tokio::task::yield_now().await;
    go.notify_one();
    for result in repetitions.join_all().await {
        assert_eq!(result, Ok(At(1)));
    }
    assert_eq!(counter.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_panic_frees_the_id() {
    let dedupe = Arc::new(Dedupe::default());
    let panics = async {
        if true {
            panic!("on purpose");
        }
        Ok::<_, &str>(At(0))
    };
    assert_eq!(
        dedupe.once(Some(key(1)), 5, panics).await,
        Err(Failure::Lost)
    );
    assert_eq!(
        dedupe.once(Some(key(1)), 5, count(Arc::default())).await,
        Ok(At(1))
    );
}

#[tokio::test]
async fn memory_is_bounded_and_the_oldest_goes() {
    let dedupe = Arc::new(Dedupe::default());
    let now = Instant::now();
    for id in 0..=REQUEST_IDS_MAX as u128 {
        let Admission::First(ticket) = dedupe.admit(&key(id), 5, now) else {
            panic!("{id} is new");
        };
        ticket.finish(&At(1), now);
    }
    let inner = dedupe.lock();
    assert_eq!(inner.entries.len(), REQUEST_IDS_MAX);
    assert_eq!(inner.order.len(), REQUEST_IDS_MAX);
    assert!(!inner.entries.contains_key(&key(0)));
    assert!(inner.entries.contains_key(&key(1)));
}
