//! `adit demo`.

use crate::args::Demo;
use crate::exit::Exit;

pub(crate) fn run(_args: &Demo) -> Exit {
    Exit::OK
}
