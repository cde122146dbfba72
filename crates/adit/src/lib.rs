//! The toolkit for client/server applications over sockets.
#![forbid(unsafe_code)]
