//! The generated trait, one method per RPC, each a line that says where it goes.
//! An RPC that this daemon does not have yet answers CAPABILITY_MISSING.

use tonic::{Request, Response, Status, Streaming};

use super::{ProcessManagerService, ResponseStream};
use crate::grpc::{proto, status::capability_missing};

#[tonic::async_trait]
impl proto::process_manager_server::ProcessManager for ProcessManagerService {
    type WatchProcessesStream = ResponseStream<proto::WatchProcessesResponse>;
    type TailLogsStream = ResponseStream<proto::TailLogsResponse>;
    type WatchProcessStatsStream = ResponseStream<proto::WatchProcessStatsResponse>;
    type AttachProcessStream = ResponseStream<proto::AttachProcessResponse>;

    async fn get_server_info(
        &self,
        request: Request<proto::GetServerInfoRequest>,
    ) -> Result<Response<proto::GetServerInfoResponse>, Status> {
        Ok(Response::new(self.info(&request)))
    }

    async fn create_process(
        &self,
        request: Request<proto::CreateProcessRequest>,
    ) -> Result<Response<proto::CreateProcessResponse>, Status> {
        self.create(request).await.map(Response::new)
    }

    async fn get_process(
        &self,
        request: Request<proto::GetProcessRequest>,
    ) -> Result<Response<proto::GetProcessResponse>, Status> {
        self.get(&request.into_inner()).map(Response::new)
    }

    async fn list_processes(
        &self,
        request: Request<proto::ListProcessesRequest>,
    ) -> Result<Response<proto::ListProcessesResponse>, Status> {
        self.list(&request.into_inner()).map(Response::new)
    }

    async fn batch_get_processes(
        &self,
        request: Request<proto::BatchGetProcessesRequest>,
    ) -> Result<Response<proto::BatchGetProcessesResponse>, Status> {
        self.batch_get(&request.into_inner()).map(Response::new)
    }

    async fn update_process(
        &self,
        request: Request<proto::UpdateProcessRequest>,
    ) -> Result<Response<proto::UpdateProcessResponse>, Status> {
        self.update(request).await.map(Response::new)
    }

    async fn apply_process(
        &self,
        request: Request<proto::ApplyProcessRequest>,
    ) -> Result<Response<proto::ApplyProcessResponse>, Status> {
        self.apply(request).await.map(Response::new)
    }

    async fn batch_apply_processes(
        &self,
        request: Request<proto::BatchApplyProcessesRequest>,
    ) -> Result<Response<proto::BatchApplyProcessesResponse>, Status> {
        self.batch_apply(request).await.map(Response::new)
    }

    async fn delete_process(
        &self,
        request: Request<proto::DeleteProcessRequest>,
    ) -> Result<Response<proto::DeleteProcessResponse>, Status> {
        self.delete(request).await.map(Response::new)
    }

    async fn start_process(
        &self,
        request: Request<proto::StartProcessRequest>,
    ) -> Result<Response<proto::StartProcessResponse>, Status> {
        self.start(request).await.map(Response::new)
    }

    async fn stop_process(
        &self,
        request: Request<proto::StopProcessRequest>,
    ) -> Result<Response<proto::StopProcessResponse>, Status> {
        self.stop(request).await.map(Response::new)
    }

    async fn restart_process(
        &self,
        request: Request<proto::RestartProcessRequest>,
    ) -> Result<Response<proto::RestartProcessResponse>, Status> {
        self.restart(request).await.map(Response::new)
    }

    async fn signal_process(
        &self,
        request: Request<proto::SignalProcessRequest>,
    ) -> Result<Response<proto::SignalProcessResponse>, Status> {
        self.signal(request).await.map(Response::new)
    }

    async fn reload_process(
        &self,
        _: Request<proto::ReloadProcessRequest>,
    ) -> Result<Response<proto::ReloadProcessResponse>, Status> {
        Err(capability_missing("reload", "ReloadProcess"))
    }

    async fn pause_process(
        &self,
        request: Request<proto::PauseProcessRequest>,
    ) -> Result<Response<proto::PauseProcessResponse>, Status> {
        self.pause(request).await.map(Response::new)
    }

    async fn resume_process(
        &self,
        request: Request<proto::ResumeProcessRequest>,
    ) -> Result<Response<proto::ResumeProcessResponse>, Status> {
        self.resume(request).await.map(Response::new)
    }

    async fn reset_process(
        &self,
        request: Request<proto::ResetProcessRequest>,
    ) -> Result<Response<proto::ResetProcessResponse>, Status> {
        self.reset(request).await.map(Response::new)
    }

    async fn explain_process(
        &self,
        request: Request<proto::ExplainProcessRequest>,
    ) -> Result<Response<proto::ExplainProcessResponse>, Status> {
        self.explain(&request.into_inner()).map(Response::new)
    }

    async fn batch_control_processes(
        &self,
        request: Request<proto::BatchControlProcessesRequest>,
    ) -> Result<Response<proto::BatchControlProcessesResponse>, Status> {
        self.batch_control(request).await.map(Response::new)
    }

    async fn wait_process(
        &self,
        request: Request<proto::WaitProcessRequest>,
    ) -> Result<Response<proto::WaitProcessResponse>, Status> {
        self.wait_for(request).await.map(Response::new)
    }

    async fn write_stdin(
        &self,
        request: Request<proto::WriteStdinRequest>,
    ) -> Result<Response<proto::WriteStdinResponse>, Status> {
        self.write_stdin(request).await.map(Response::new)
    }

    async fn get_process_stats(
        &self,
        _: Request<proto::GetProcessStatsRequest>,
    ) -> Result<Response<proto::GetProcessStatsResponse>, Status> {
        Err(capability_missing("stats", "GetProcessStats"))
    }

    async fn list_groups(
        &self,
        _: Request<proto::ListGroupsRequest>,
    ) -> Result<Response<proto::ListGroupsResponse>, Status> {
        Err(capability_missing("group_budgets", "ListGroups"))
    }

    async fn shutdown_server(
        &self,
        request: Request<proto::ShutdownServerRequest>,
    ) -> Result<Response<proto::ShutdownServerResponse>, Status> {
        self.shut_down(request.into_inner().mode).map(Response::new)
    }

    async fn watch_processes(
        &self,
        request: Request<proto::WatchProcessesRequest>,
    ) -> Result<Response<Self::WatchProcessesStream>, Status> {
        self.watch(request).map(Response::new)
    }

    async fn tail_logs(
        &self,
        request: Request<proto::TailLogsRequest>,
    ) -> Result<Response<Self::TailLogsStream>, Status> {
        self.tail_logs(request.into_inner()).map(Response::new)
    }

    async fn watch_process_stats(
        &self,
        _: Request<proto::WatchProcessStatsRequest>,
    ) -> Result<Response<Self::WatchProcessStatsStream>, Status> {
        Err(capability_missing("stats", "WatchProcessStats"))
    }

    async fn attach_process(
        &self,
        request: Request<Streaming<proto::AttachProcessRequest>>,
    ) -> Result<Response<Self::AttachProcessStream>, Status> {
        self.attach(request).await.map(Response::new)
    }
}
