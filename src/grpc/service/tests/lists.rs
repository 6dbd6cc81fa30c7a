//! Lists and reads of several processes.

use super::*;

fn names(processes: &[proto::Process]) -> Vec<&str> {
    processes
        .iter()
        .map(|process| process.name.as_str())
        .collect()
}

fn labelled(name: &str, bytes: usize) -> proto::Process {
    let mut process = process(name);
    process.annotations.insert("note".into(), "x".repeat(bytes));
    process
}

#[tokio::test(start_paused = true)]
async fn pages_share_one_revision_whatever_happens_meanwhile() {
    let world = world();
    for name in ["e", "c", "a", "d", "b"] {
        world.create(process(name)).await;
    }
    let request = |page_token: &str| proto::ListProcessesRequest {
        page_size: 2,
        page_token: page_token.into(),
        ..Default::default()
    };
    let first = call!(world, list_processes, request("")).unwrap();
    assert_eq!(
        (names(&first.processes), first.total_size),
        (vec!["a", "b"], 5)
    );
    world.create(process("bb")).await;
    world.start("c").await;
    let second = call!(world, list_processes, request(&first.next_page_token)).unwrap();
    assert_eq!(
        (names(&second.processes), second.total_size),
        (vec!["c", "d"], 5)
    );
    assert_eq!(second.header, first.header);
    assert_eq!(second.processes[0].status.as_ref().unwrap().run_id, 0);
    let third = call!(world, list_processes, request(&second.next_page_token)).unwrap();
    assert_eq!(
        (names(&third.processes), &*third.next_page_token),
        (vec!["e"], "")
    );

    let mut other = request(&first.next_page_token);
    other.selector = Some(proto::ProcessSelector {
        names: vec!["a".into()],
        ..Default::default()
    });
    let status = call!(world, list_processes, other).unwrap_err();
    assert_eq!(reason(&status), "PAGE_TOKEN_INVALID");
    tokio::time::advance(Duration::from_secs(120)).await;
    let late = call!(world, list_processes, request(&first.next_page_token));
    assert_eq!(reason(&late.unwrap_err()), "LIST_EXPIRED");
}

#[tokio::test(start_paused = true)]
async fn a_page_ends_at_one_mebibyte() {
    let world = world();
    for i in 0..80 {
        world.create(labelled(&format!("p{i:02}"), 16_000)).await;
    }
    let request = proto::ListProcessesRequest {
        page_size: 1000,
        ..Default::default()
    };
    let page = call!(world, list_processes, request).unwrap();
    assert!(
        (60..70).contains(&page.processes.len()),
        "{}",
        page.processes.len()
    );
    assert!(!page.next_page_token.is_empty());
    let request = proto::ListProcessesRequest {
        page_size: 1000,
        read_mask: Some(prost_types::FieldMask {
            paths: vec!["status".into()],
        }),
        ..Default::default()
    };
    let page = call!(world, list_processes, request).unwrap();
    assert_eq!((page.processes.len(), &*page.next_page_token), (80, ""));
    assert!(page.processes.iter().all(|p| p.annotations.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_batch_read_is_in_order_and_all_or_nothing() {
    let world = world();
    for name in ["a", "b"] {
        world.create(process(name)).await;
    }
    let request = |names: &[&str]| proto::BatchGetProcessesRequest {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let read = call!(world, batch_get_processes, request(&["b", "a", "b"])).unwrap();
    assert_eq!(names(&read.processes), ["b", "a", "b"]);
    let status = call!(world, batch_get_processes, request(&["a", "x", "y"])).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().ends_with("x, y"), "{status}");
    let status = call!(world, batch_get_processes, request(&["a", "-"])).unwrap_err();
    assert_eq!(faulty(&status), ["names[1]"]);
    world.create(labelled("big", 16_000)).await;
    let status = call!(world, batch_get_processes, request(&["big"; 300])).unwrap_err();
    assert_eq!(reason(&status), "RESPONSE_TOO_LARGE");
}
