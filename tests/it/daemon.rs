//! The whole daemon from outside: the built program, real processes, real clients.

mod calls;
mod changes;
mod ends;
mod history;
mod leaks;
mod load;
mod lost;
mod proc;
mod races;
mod stops;
mod support;
mod surroundings;
