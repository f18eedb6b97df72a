//! The keeper binary: wires the keeper core to one platform, its files and its sockets.
