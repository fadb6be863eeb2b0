//! The variables that expressions can name.

use super::{BadExpression, JsonPath, Place, Reader};

/// A variable as it is written, without its dollar and braces. Whether its names exist is not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable<'t> {
    /// `request.body.PATH`
    RequestBody(JsonPath),
    /// `request.PART.NAME`, such as `request.header.x-api-key`.
    RequestParameter { part: &'t str, name: &'t str },
    /// `context.NAME`
    Context(String),
    /// `stageVariables.NAME`
    Stage(String),
    /// `input.MEMBER`, or `input.MEMBER('ARGUMENT')`.
    Input { member: String, argument: Option<&'t str> },
    /// `integration.response.body.PATH`
    ResponseBody(JsonPath),
    /// `integration.response.header.NAME`
    ResponseHeader(String),
    /// `integration.response.statuscode`
    ResponseStatus,
}

impl<'t> Reader<'t> {
    /// Takes a variable. `None` if it is none of the known ones; what was taken of it is the part that was understood.
    ///
    /// # Errors
    /// If its path is malformed, or can find several values.
    pub fn variable(&mut self) -> Result<Option<Variable<'t>>, BadExpression> {
        match self.word() {
            "request" => self.request(),
            "context" => Ok(self.names().map(Variable::Context)),
            "stageVariables" if self.place() == Place::Whole => Ok(self.names().map(Variable::Stage)),
            "stageVariables" => Ok(self.member().map(Variable::Stage)),
            "input" => Ok(self.input()),
            "integration" if self.member().as_deref() == Some("response") => self.response(),
            _ => Ok(None),
        }
    }

    fn request(&mut self) -> Result<Option<Variable<'t>>, BadExpression> {
        if !self.take(".") {
            return Ok(None);
        }
        let part = self.word();
        if part == "body" {
            return Ok(Some(Variable::RequestBody(self.path()?)));
        }
        Ok(self.take(".").then(|| Variable::RequestParameter { part, name: self.parameter_name() }))
    }

    fn input(&mut self) -> Option<Variable<'t>> {
        let member = self.member()?;
        let argument = if member == "body" { None } else { self.argument() };
        Some(Variable::Input { member, argument })
    }

    fn response(&mut self) -> Result<Option<Variable<'t>>, BadExpression> {
        match self.member().as_deref() {
            Some("body") => Ok(Some(Variable::ResponseBody(self.path()?))),
            Some("statuscode") => Ok(Some(Variable::ResponseStatus)),
            Some("header") if self.place() == Place::Whole => Ok(self.names().map(Variable::ResponseHeader)),
            Some("header") => Ok(self.member().map(Variable::ResponseHeader)),
            _ => Ok(None),
        }
    }

    /// Takes the names after a root, such as `.identity.sourceIp`. If the text is one variable, they end with it.
    fn names(&mut self) -> Option<String> {
        if self.place() == Place::Whole {
            return self.take(".").then(|| self.take_all().to_owned());
        }
        Some(self.members()).filter(|names| !names.is_empty())
    }

    /// Takes the name of a header or a query parameter, which may contain dots.
    fn parameter_name(&mut self) -> &'t str {
        if self.place() == Place::Whole {
            return self.take_all();
        }
        let in_name = |next: char| next.is_ascii_alphanumeric() || matches!(next, '.' | '_' | '-');
        let rest = self.rest();
        let length = rest.find(|next| !in_name(next)).unwrap_or(rest.len());
        self.skip(length);
        &rest[..length]
    }
}
