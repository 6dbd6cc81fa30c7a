//! A whole process: a draft from the wire, a published state to it.

use super::{Faults, Unacceptable, observed, spec, timestamp};
use crate::{
    domain::{
        id::{ProcessName, Uid},
        spec::{Config, FieldError, Spec},
    },
    grpc::{mask::UpdateMask, proto},
    supervisor::{Draft, Edit, ProcessNode},
};

/// Stands in for a faulty name, so that the rest can be checked as well.
const NAMELESS: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// Takes a process to create or apply.
///
/// # Errors
/// Everything that is wrong with it.
pub fn draft(process: Option<proto::Process>) -> Result<Draft, Unacceptable> {
    let process = process.ok_or_else(|| Unacceptable::field("process", "is required"))?;
    let mut faults = Faults::default();
    let draft = draft_into(process, &mut faults);
    faults.finish_some(draft)
}

/// Takes a process; `None` only with a fault noted.
pub fn draft_into(process: proto::Process, faults: &mut Faults) -> Option<Draft> {
    let name = faults.name("name", &process.name);
    let config = spec::config(process, faults);
    let checked = name.clone().or_else(|| ProcessName::new(NAMELESS).ok());
    if let Some(Err(found)) = checked.map(|name| config.validate(&name)) {
        faults.extend(found);
    }
    Some(Draft {
        name: name?,
        config,
    })
}

/// The edit that `mask` makes of `process`.
///
/// # Errors
/// What is wrong with the masked part by itself.
pub fn edit(
    process: proto::Process,
    mask: UpdateMask,
    name: &ProcessName,
) -> Result<Edit, Unacceptable> {
    let mut faults = Faults::default();
    spec::config(mask.part(&process), &mut faults);
    faults.finish(())?;
    let name = name.clone();
    Ok(Box::new(move |base: &Config| {
        edited(base, &process, &mask, &name)
    }))
}

fn edited(
    base: &Config,
    process: &proto::Process,
    mask: &UpdateMask,
    name: &ProcessName,
) -> Result<Config, Vec<FieldError>> {
    let merged = mask.overlay(&from_config(base), process);
    let mut faults = Faults::default();
    let config = spec::config(merged, &mut faults);
    if let Err(found) = config.validate(name) {
        faults.extend(found);
    }
    if faults.fields.is_empty() {
        Ok(config)
    } else {
        Err(faults.fields)
    }
}

/// A process as it would be created.
#[must_use]
pub fn preview(draft: &Draft) -> proto::Process {
    proto::Process {
        name: draft.name.as_str().to_owned(),
        ..from_config(&draft.config)
    }
}

/// A published state.
#[must_use]
pub fn process(node: &ProcessNode) -> proto::Process {
    let state = node.body();
    proto::Process {
        name: state.name().as_str().to_owned(),
        version: node.version(),
        revision: node.revision().get(),
        status: Some(observed::status(state)),
        update_time: timestamp(state.time),
        ..configured(node.uid(), &state.spec)
    }
}

/// The part of a process that only changes with its configuration; no name.
#[must_use]
pub fn configured(uid: Uid, spec: &Spec) -> proto::Process {
    proto::Process {
        uid: uid.to_string(),
        generation: spec.generation,
        etag: etag(uid, spec.generation),
        create_time: timestamp(spec.created),
        ..from_config(&spec.config)
    }
}

/// A configuration alone.
pub(super) fn from_config(config: &Config) -> proto::Process {
    proto::Process {
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        group: config
            .group
            .as_ref()
            .map(|group| group.as_str().to_owned())
            .unwrap_or_default(),
        spec: Some(spec::spec(config)),
        ..Default::default()
    }
}

/// Validator of a configuration.
#[must_use]
pub fn etag(uid: Uid, generation: i64) -> String {
    format!("{uid}.{generation:x}")
}

/// The incarnation and generation that an etag stands for.
#[must_use]
pub fn parse_etag(etag: &str) -> Option<(String, i64)> {
    let (uid, generation) = etag.rsplit_once('.')?;
    let uid = uuid::Uuid::try_parse(uid).ok()?.hyphenated().to_string();
    let generation = i64::from_str_radix(generation, 16).ok()?;
    (generation > 0).then_some((uid, generation))
}
