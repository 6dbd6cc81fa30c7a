//! The listeners and what stands before the service, through real clients.

mod drain;
mod http2;
mod mtls;
mod socket;
mod support;
