//! The listeners and what stands before the service, through real clients.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod drain;
mod http2;
mod mtls;
mod socket;
mod support;
