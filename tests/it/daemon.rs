//! The whole daemon from outside: the built program, real processes, real clients.

mod grpcurl;
mod input;
mod support;
