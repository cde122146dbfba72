//! The client: connecting, calls with deadlines, and what may have happened when one fails.

mod blocking;
mod call;
mod datagrams;
mod dial;
mod driver;
mod exchange;
mod lookup;
mod time_wait;

pub use blocking::{BlockingCall, BlockingClient};
pub use call::{Call, Client, ClientOptions};
pub use datagrams::Datagrams;
pub use dial::{Dial, Family};
