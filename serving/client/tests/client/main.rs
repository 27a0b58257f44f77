//! The client against a server that tests play, over pipes.

mod consuming;
mod fake;
mod publishing;
