//! `scale NAME N`: replicas are processes `NAME-0`, `NAME-1`, ... The daemon does
//! not know of them as a set; this file does.
//!
//! Up: what is missing below N becomes a copy of the configuration of `NAME-0`, and
//! runs if `NAME-0` is meant to. Down: what is at or above N is deleted, the
//! highest first, one at a time. Replicas that stay are not touched.

use std::collections::BTreeMap;

use super::{
    args::ScaleArgs,
    client,
    control::{self, Control, outcome},
    delete,
    errors::CliError,
    exit_code::ExitCode,
    list,
    render::{json, process, text},
    session::Session,
};
use crate::{
    domain::id::ProcessName,
    grpc::proto::{self, ControlAction, WaitCondition},
};

/// How a redacted value begins; it cannot be given to another process.
const REDACTED: &str = "<redacted:";

pub(crate) async fn scale(
    args: &ScaleArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    if let Err(error) = ProcessName::new(&format!("{}-{}", args.name, args.count - 1)) {
        return Err(CliError::Usage(format!(
            "`{}` cannot be scaled: its name {error}",
            args.name
        )));
    }
    let replicas = replicas(&args.name, session).await?;
    let Some(template) = replicas.get(&0) else {
        let name = &args.name;
        return Err(CliError::Refused(format!(
            "there is no {name}-0 to copy; `scale {name}` works on processes called {name}-0, \
             {name}-1, ...: put {name}-0 into the file and apply it"
        )));
    };
    let plan = Plan::new(args.count, &replicas);
    if !plan.create.is_empty() {
        check_copyable(template)?;
    }
    let mut code = ExitCode::Ok;
    for index in &plan.create {
        code = code.or(create(template, &format!("{}-{index}", args.name), args, session).await?);
    }
    for index in &plan.delete {
        code = code.or(remove(&format!("{}-{index}", args.name), args, session).await?);
    }
    if plan.create.is_empty() && plan.delete.is_empty() && !session.out.is_json() {
        session.out.line(&format!(
            "{}: already {}",
            text::line(&args.name),
            args.count
        ))?;
    }
    Ok(code)
}

/// What has to be done, in order.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    create: Vec<u32>,
    delete: Vec<u32>,
}

// === impl Plan ===

impl Plan {
    fn new<T>(count: u16, replicas: &BTreeMap<u32, T>) -> Self {
        let count = u32::from(count);
        Self {
            create: (0..count)
                .filter(|index| !replicas.contains_key(index))
                .collect(),
            delete: replicas
                .keys()
                .copied()
                .filter(|index| *index >= count)
                .rev()
                .collect(),
        }
    }
}

/// The replicas there are, by index.
async fn replicas(
    name: &str,
    session: &mut Session<'_>,
) -> Result<BTreeMap<u32, proto::Process>, CliError> {
    let selector = proto::ProcessSelector {
        name_patterns: vec![format!("{name}-*")],
        ..proto::ProcessSelector::default()
    };
    let listed = list::list(&mut session.client, &selector, &[]).await?;
    let indexed = listed.processes.into_iter().filter_map(|process| {
        let index = index(name, &process.name)?;
        Some((index, process))
    });
    Ok(indexed.collect())
}

/// The index of a replica of `name`; none for `web-01`, `web-x` and `web-0-a`.
fn index(name: &str, replica: &str) -> Option<u32> {
    let digits = replica.strip_prefix(name)?.strip_prefix('-')?;
    let canonical = digits == "0" || !digits.starts_with('0');
    let numeric = digits.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && numeric {
        digits.parse().ok()
    } else {
        None
    }
}

fn check_copyable(template: &proto::Process) -> Result<(), CliError> {
    let Some(spec) = &template.spec else {
        return Err(CliError::Refused(format!(
            "the daemon does not show how {} is run",
            template.name
        )));
    };
    let mut secret: Vec<&str> = spec
        .env
        .iter()
        .filter(|(_, value)| value.starts_with(REDACTED))
        .map(|(name, _)| name.as_str())
        .collect();
    secret.sort_unstable();
    if secret.is_empty() {
        return Ok(());
    }
    Err(CliError::Refused(format!(
        "{} has secret variables that cannot be read back ({}); put the new replicas into the \
         file and apply it, or keep the values elsewhere with `secrets`",
        template.name,
        secret.join(", ")
    )))
}

async fn create(
    template: &proto::Process,
    name: &str,
    args: &ScaleArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let copy = proto::Process {
        name: name.to_owned(),
        labels: template.labels.clone(),
        annotations: template.annotations.clone(),
        group: template.group.clone(),
        spec: template.spec.clone(),
        ..proto::Process::default()
    };
    let request = proto::CreateProcessRequest {
        process: Some(copy),
        request_id: client::request_id(),
        validate_only: false,
    };
    let created = session
        .client
        .create_process(client::call(request))
        .await?
        .into_inner();
    if session.out.is_json() {
        session.out.line(&json::to_json(&created, false)?)?;
    }
    if !process::is_wanted(template) {
        if !session.out.is_json() {
            session.out.line(&format!("{name}: created"))?;
        }
        return Ok(ExitCode::Ok);
    }
    let wait = (!args.wait.no_wait).then_some((WaitCondition::Running, args.wait.timeout));
    let control = Control {
        action: ControlAction::Start,
        wait,
        stop_policy: None,
        with_related: false,
    };
    let started = control::one(
        session.client.clone(),
        &control,
        name,
        session.out.is_json(),
    );
    outcome::report(&started.await?, control.timeout(), session)
}

async fn remove(
    name: &str,
    args: &ScaleArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let wait = match args.wait.no_wait {
        true => proto::WaitOptions::default(),
        false => control::wait_options(WaitCondition::Deleted, args.wait.timeout),
    };
    let request = delete::plain_request(name, Some(wait));
    let call = client::waiting_call(request, Some(args.wait.timeout));
    let response = session.client.delete_process(call).await?.into_inner();
    let code = outcome::exit_code(response.wait_outcome());
    if session.out.is_json() {
        session.out.line(&json::to_json(&response, false)?)?;
    } else if code == ExitCode::Ok {
        session.out.line(&format!("{name}: deleted"))?;
    } else {
        let timeout = Some(args.wait.timeout);
        let (process, outcome) = (response.process.clone(), response.wait_outcome());
        let done = outcome::Done::new(name, &response, process, outcome, false)?;
        return outcome::report(&done, timeout, session);
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_have_canonical_numbers() {
        let cases = [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-01", None),
            ("web-", None),
            ("web-x", None),
            ("web-0-1", None),
            ("web", None),
            ("webx-1", None),
            ("web-4294967296", None),
            ("web-+1", None),
        ];
        for (replica, expected) in cases {
            assert_eq!(index("web", replica), expected, "{replica}");
        }
    }

    #[test]
    fn the_highest_goes_first_and_holes_are_filled() {
        let there = |indexes: &[u32]| indexes.iter().map(|index| (*index, ())).collect();
        let plan = |count, indexes: &[u32]| Plan::new(count, &there(indexes));
        assert_eq!(
            plan(3, &[0]),
            Plan {
                create: vec![1, 2],
                delete: vec![]
            }
        );
        assert_eq!(
            plan(1, &[0, 1, 2]),
            Plan {
                create: vec![],
                delete: vec![2, 1]
            }
        );
        assert_eq!(
            plan(3, &[0, 2, 7]),
            Plan {
                create: vec![1],
                delete: vec![7]
            }
        );
        assert_eq!(
            plan(2, &[0, 1]),
            Plan {
                create: vec![],
                delete: vec![]
            }
        );
    }

    #[test]
    fn secrets_cannot_be_copied() {
        let mut spec = proto::ProcessSpec::default();
        spec.env.insert("PLAIN".into(), "x".into());
        let process = |spec: &proto::ProcessSpec| proto::Process {
            name: "web-0".into(),
            spec: Some(spec.clone()),
            ..proto::Process::default()
        };
        assert!(check_copyable(&process(&spec)).is_ok());
        spec.env.insert("TOKEN".into(), "<redacted:ab12>".into());
        let error = check_copyable(&process(&spec)).unwrap_err().to_string();
        assert!(
            error.contains("(TOKEN)") && error.contains("apply"),
            "{error}"
        );
    }
}
