//! What the simulator promises to those who talk to it: in process on a paused clock, or over real sockets.

mod conditions;
mod faults;
mod limits;
mod logins;
mod operations;
mod peer;
mod sockets;
