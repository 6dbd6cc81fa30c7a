pub(in crate::grpc) mod fault;
