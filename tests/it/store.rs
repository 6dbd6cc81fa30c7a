//! The durable store, on real files: what was acknowledged is there, whatever
//! happens to the daemon, the disk or the bytes.

mod basics;
mod crashes;
mod damage;
mod doctor;
mod faults;
mod fixture;
mod ledger;
mod support;
