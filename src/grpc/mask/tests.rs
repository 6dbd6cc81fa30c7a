//! Masks over the contract's own fields.

use super::*;

fn mask(paths: &[&str]) -> FieldMask {
    FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    }
}

fn problems(result: Result<impl std::fmt::Debug, Vec<FieldError>>) -> Vec<String> {
    let faults = result.unwrap_err();
    faults.into_iter().map(|fault| fault.problem).collect()
}

fn process() -> proto::Process {
    proto::Process {
        name: "web".into(),
        uid: "u".into(),
        version: 3,
        revision: 9,
        etag: "e".into(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        spec: Some(proto::ProcessSpec {
            command: vec!["web".into()],
            nice: 4,
            restart_policy: Some(proto::RestartPolicy {
                max_consecutive_failures: 2,
                no_restart_exit_codes: vec![3],
                ..Default::default()
            }),
            ..Default::default()
        }),
        status: Some(proto::ProcessStatus {
            state: 4,
            pid: 12,
            last_exit: Some(proto::ExitStatus {
                run_id: 1,
                outcome: Some(proto::exit_status::Outcome::ExitCode(0)),
                core_dumped: true,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn absent_empty_and_star_are_everything() {
    for read in [None, Some(mask(&[])), Some(mask(&["*"]))] {
        let parsed = Mask::parse(read.as_ref()).unwrap();
        assert!(parsed.is_everything());
        let mut shown = process();
        parsed.project(&mut shown);
        assert_eq!(shown, process());
    }
}

#[test]
fn a_projection_has_identity_and_what_was_asked_for() {
    let read = mask(&[
        "status.last_exit.exit_code",
        "status.pid",
        "spec.restart_policy.no_restart_exit_codes",
    ]);
    let mut shown = process();
    Mask::parse(Some(&read)).unwrap().project(&mut shown);
    let expected = proto::Process {
        name: "web".into(),
        uid: "u".into(),
        version: 3,
        revision: 9,
        spec: Some(proto::ProcessSpec {
            restart_policy: Some(proto::RestartPolicy {
                no_restart_exit_codes: vec![3],
                ..Default::default()
            }),
            ..Default::default()
        }),
        status: Some(proto::ProcessStatus {
            pid: 12,
            last_exit: Some(proto::ExitStatus {
                outcome: Some(proto::exit_status::Outcome::ExitCode(0)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(shown, expected);
}

#[test]
fn unknown_paths_are_all_told_with_the_nearest_known() {
    let read = mask(&[
        "status.pidd",
        "spec",
        "labels.app",
        "status.conditions.type",
        "zzz",
    ]);
    let told = problems(Mask::parse(Some(&read)));
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[0].contains("did you mean \"status.pid\"?"), "{told:?}");
    assert!(told[1].contains("use \"labels\""), "{told:?}");
    assert!(told[2].contains("use \"status.conditions\""), "{told:?}");
    assert!(told[3].contains("no field of a process"), "{told:?}");
}

#[test]
fn a_mask_has_a_bounded_number_of_paths() {
    let paths = vec!["nam"; PATHS_MAX + 1];
    assert_eq!(problems(Mask::parse(Some(&mask(&paths)))).len(), 1);
    let paths = vec!["name"; PATHS_MAX];
    Mask::parse(Some(&mask(&paths))).unwrap();
}

#[test]
fn the_canonical_text_does_not_depend_on_order_or_repetition() {
    let canonical = |paths: &[&str]| Mask::parse(Some(&mask(paths))).unwrap().canonical();
    assert_eq!(
        canonical(&["uid", "status"]),
        canonical(&["status", "uid", "status"])
    );
    assert_ne!(canonical(&["uid"]), canonical(&["status"]));
}

#[test]
fn an_update_mask_must_name_configuration() {
    for wrong in [
        &[][..],
        &["*"],
        &["status.pid"],
        &["name"],
        &["spec.env.A"],
        &["labels.x"],
    ] {
        assert_eq!(
            problems(UpdateMask::parse(Some(&mask(wrong)))).len(),
            1,
            "{wrong:?}"
        );
    }
    assert_eq!(problems(UpdateMask::parse(None)).len(), 1);
    UpdateMask::parse(Some(&mask(&["spec", "labels", "annotations", "group"]))).unwrap();
}

#[test]
fn an_overlay_replaces_what_is_masked_and_keeps_the_rest() {
    let update = UpdateMask::parse(Some(&mask(&[
        "labels",
        "spec.command",
        "spec.restart_policy.max_consecutive_failures",
        "spec.nice",
    ])))
    .unwrap();
    let from = proto::Process {
        labels: [("tier".to_owned(), "db".to_owned())].into(),
        group: "ignored".into(),
        spec: Some(proto::ProcessSpec {
            command: vec!["new".into(), "words".into()],
            umask: "ignored".into(),
            restart_policy: Some(proto::RestartPolicy {
                max_consecutive_failures: 7,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let merged = update.overlay(&process(), &from);
    let mut expected = process();
    expected.labels = from.labels.clone();
    let spec = expected.spec.as_mut().unwrap();
    spec.command = vec!["new".into(), "words".into()];
    spec.nice = 0;
    spec.restart_policy
        .as_mut()
        .unwrap()
        .max_consecutive_failures = 7;
    assert_eq!(merged, expected);
}

#[test]
fn a_oneof_is_replaced_by_its_other_member() {
    let update = UpdateMask::parse(Some(&mask(&["spec.schedule.cron"]))).unwrap();
    let schedule = |when| proto::Process {
        spec: Some(proto::ProcessSpec {
            schedule: Some(proto::Schedule {
                when: Some(when),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let cron = schedule(proto::schedule::When::Cron("* * * * *".into()));
    let base = schedule(proto::schedule::When::Interval(
        prost_types::Duration::default(),
    ));
    assert_eq!(update.overlay(&base, &cron), cron);
}
