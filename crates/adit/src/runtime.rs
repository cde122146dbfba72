//! The runtime of a thread of adit's own, or why there is none.

use std::io;

use adit_net::descriptors::{OF_A_RUNTIME, find_room};
use tokio::runtime::{Builder, Runtime};

/// Makes a runtime for this thread, with what `change` wants different.
pub(crate) fn make(change: impl FnOnce(&mut Builder)) -> io::Result<Runtime> {
    find_room(OF_A_RUNTIME)?;
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    change(&mut builder);
    builder.build()
}
