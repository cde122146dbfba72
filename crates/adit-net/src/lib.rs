//! adit's one door to the operating system: sockets, their options, datagrams and descriptors.
