//! Expressions: the texts of a manifest that name a value of an event or of a response.
//!
//! Selection expressions (`$request.body.action`), mappings (`route.request.body.id`) and the variables of templates
//! (`$input.json('$.id')`) have one reader: what a variable and a path are is decided here, and each user decides which
//! variables it accepts. Pure: uses no IO and no clock.

mod evaluation;
mod json_path;
mod reader;
mod variable;

pub use json_path::JsonPath;
pub use reader::{BadExpression, Place, Reader};
pub use variable::Variable;

/// A step of a path: to the value of a name in an object, or to an element of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Name(Box<str>),
    Index(usize),
}
