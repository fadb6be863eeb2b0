//! Cases from public reports: of other programs in this field, of libraries below them, and of the RFCs.
//!
//! One test is one report. Its name says what is right, its first comment gives the source: a repository with the number
//! of the issue or pull request, or the section of a document. The input is always written anew. A new case goes to the
//! file of its area, with the client that sends it from `harness`, or from `wire` if it sends bytes that no client sends.

mod admission;
mod autobahn;
mod endings;
mod handshake;
mod json;
