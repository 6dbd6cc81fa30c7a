//! A lifecycle action on one process: seven RPCs of the same shape.

use super::{Control, outcome::Done};
use crate::{
    cli::{
        client::{self, Client},
        errors::CliError,
    },
    grpc::proto::{self, ControlAction, WaitOutcome},
};

/// A call that waits for nothing; the contract gives each its own types.
macro_rules! at_once {
    ($client:ident, $name:ident, $json:ident, $request:ident, $call:ident) => {{
        let request = proto::$request {
            name: $name.to_owned(),
            precondition: None,
            request_id: client::request_id(),
        };
        let answer = $client.$call(client::call(request)).await?.into_inner();
        let process = answer.process.clone();
        Done::new($name, &answer, process, WaitOutcome::Unspecified, $json)
    }};
}

/// Does `control` to `name`. The response is kept as JSON if `json`.
pub(crate) async fn one(
    mut client: Client,
    control: &Control,
    name: &str,
    json: bool,
) -> Result<Done, CliError> {
    match control.action {
        ControlAction::Start => start(&mut client, control, name, json).await,
        ControlAction::Stop => stop(&mut client, control, name, json).await,
        ControlAction::Restart => restart(&mut client, control, name, json).await,
        ControlAction::Reload => reload(&mut client, control, name, json).await,
        ControlAction::Pause => {
            at_once!(client, name, json, PauseProcessRequest, pause_process)
        }
        ControlAction::Resume => {
            at_once!(client, name, json, ResumeProcessRequest, resume_process)
        }
        ControlAction::Reset => {
            at_once!(client, name, json, ResetProcessRequest, reset_process)
        }
        ControlAction::Unspecified => Err(CliError::Usage("no action is given".to_owned())),
    }
}

async fn start(
    client: &mut Client,
    control: &Control,
    name: &str,
    json: bool,
) -> Result<Done, CliError> {
    let request = proto::StartProcessRequest {
        name: name.to_owned(),
        request_id: client::request_id(),
        wait: control.wait_options(),
        with_dependencies: control.with_related,
        ..proto::StartProcessRequest::default()
    };
    let call = client::waiting_call(request, control.timeout());
    let answer = client.start_process(call).await?.into_inner();
    Done::new(
        name,
        &answer,
        answer.process.clone(),
        answer.wait_outcome(),
        json,
    )
}

async fn stop(
    client: &mut Client,
    control: &Control,
    name: &str,
    json: bool,
) -> Result<Done, CliError> {
    let request = proto::StopProcessRequest {
        name: name.to_owned(),
        request_id: client::request_id(),
        stop_policy: control.stop_policy,
        wait: control.wait_options(),
        with_dependents: control.with_related,
        ..proto::StopProcessRequest::default()
    };
    let call = client::waiting_call(request, control.timeout());
    let answer = client.stop_process(call).await?.into_inner();
    Done::new(
        name,
        &answer,
        answer.process.clone(),
        answer.wait_outcome(),
        json,
    )
}

async fn restart(
    client: &mut Client,
    control: &Control,
    name: &str,
    json: bool,
) -> Result<Done, CliError> {
    let request = proto::RestartProcessRequest {
        name: name.to_owned(),
        request_id: client::request_id(),
        wait: control.wait_options(),
        ..proto::RestartProcessRequest::default()
    };
    let call = client::waiting_call(request, control.timeout());
    let answer = client.restart_process(call).await?.into_inner();
    Done::new(
        name,
        &answer,
        answer.process.clone(),
        answer.wait_outcome(),
        json,
    )
}

async fn reload(
    client: &mut Client,
    control: &Control,
    name: &str,
    json: bool,
) -> Result<Done, CliError> {
    let request = proto::ReloadProcessRequest {
        name: name.to_owned(),
        request_id: client::request_id(),
        wait: control.wait_options(),
        ..proto::ReloadProcessRequest::default()
    };
    let call = client::waiting_call(request, control.timeout());
    let answer = client.reload_process(call).await?.into_inner();
    Done::new(
        name,
        &answer,
        answer.process.clone(),
        answer.wait_outcome(),
        json,
    )
}
