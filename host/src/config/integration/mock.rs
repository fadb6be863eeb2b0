//! An integration of type "mock".

use super::responses::integration_response;
use crate::config::section::Section;
use crate::gateway::{IntegrationResponse, TemplateKind};

pub fn mock(section: &mut Section<'_>) -> IntegrationResponse {
    integration_response(section, TemplateKind::Event)
}
