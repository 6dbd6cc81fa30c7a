//! The whole daemon from outside: the built program, real processes, real clients.

mod api;
mod grpcurl;
mod input;
mod support;
