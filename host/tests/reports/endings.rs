//! How connections, servers and processes end.
