//! `connection-store`: one row for each connection, which a guest can find by any attribute of the row.

use crate::backend::{self, AttributeChange, BackendError};
use crate::bindings::jackfield::gateway::connection_store::{Host, Page, Row, StoreError};
use crate::capability::{Capabilities, GrantedInterface};
use crate::event::Field;
use crate::id::ConnectionId;

impl Host for Capabilities {
    async fn get(&mut self, id: String) -> wasmtime::Result<Result<Row, StoreError>> {
        if let Err(denied) = self.check_store_granted() {
            return Ok(Err(denied));
        }
        self.count_host_call_or_trap()?;
        let row = match parse_id(&id) {
            Ok(id) => self.store().get(id).await.map_err(StoreError::from),
            Err(error) => Err(error),
        };
        Ok(row.map(Row::from))
    }

    async fn put(&mut self, id: String, attributes: Vec<Field>) -> wasmtime::Result<Result<(), StoreError>> {
        if let Err(denied) = self.check_store_granted() {
            return Ok(Err(denied));
        }
        self.count_host_call_or_trap()?;
        let id = match parse_id(&id) {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.change(id, AttributeChange::Put(attributes)).await.map_err(StoreError::from))
    }

    async fn add(&mut self, id: String, name: String, value: String) -> wasmtime::Result<Result<(), StoreError>> {
        if let Err(denied) = self.check_store_granted() {
            return Ok(Err(denied));
        }
        self.count_host_call_or_trap()?;
        let id = match parse_id(&id) {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.change(id, AttributeChange::Add((name, value))).await.map_err(StoreError::from))
    }

    async fn remove(
        &mut self,
        id: String,
        name: String,
        value: Option<String>,
    ) -> wasmtime::Result<Result<(), StoreError>> {
        if let Err(denied) = self.check_store_granted() {
            return Ok(Err(denied));
        }
        self.count_host_call_or_trap()?;
        let id = match parse_id(&id) {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.change(id, AttributeChange::Remove { name, value }).await.map_err(StoreError::from))
    }

    async fn query(
        &mut self,
        name: String,
        value: String,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<Page, StoreError>> {
        if let Err(denied) = self.check_store_granted() {
            return Ok(Err(denied));
        }
        self.count_host_call_or_trap()?;
        let page = self.store().query(name, value, cursor).await;
        Ok(page.map(Page::from).map_err(StoreError::from))
    }

    async fn scan(&mut self, cursor: Option<String>) -> wasmtime::Result<Result<Page, StoreError>> {
        if let Err(denied) = self.check_store_granted() {
            return Ok(Err(denied));
        }
        self.count_host_call_or_trap()?;
        Ok(self.store().scan(cursor).await.map(Page::from).map_err(StoreError::from))
    }
}

impl Capabilities {
    async fn change(&mut self, id: ConnectionId, change: AttributeChange) -> Result<(), BackendError> {
        let (stage, store) = (self.caller.api.stage_id, &self.scope.grants.store);
        self.scope.services.directory.change(stage, store, id, change).await
    }

    /// Every function of `connection-store` checks this first.
    fn check_store_granted(&self) -> Result<(), StoreError> {
        if self.scope.grants.connection_store {
            return Ok(());
        }
        self.log_denied(GrantedInterface::ConnectionStore);
        Err(StoreError::AccessDenied)
    }
}

/// Parses a connection id. An invalid id is reported as one that has no row.
fn parse_id(id: &str) -> Result<ConnectionId, StoreError> {
    ConnectionId::parse(id).map_err(|_| StoreError::NoSuchConnection)
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::NoSuchConnection => Self::NoSuchConnection,
            BackendError::TooLarge(_) => Self::TooLarge,
            BackendError::BucketFull(text) | BackendError::Invalid(text) | BackendError::Unavailable(text) => {
                Self::Unavailable(text)
            }
        }
    }
}

impl From<backend::Row> for Row {
    fn from(row: backend::Row) -> Self {
        Self { connection_id: row.id.as_str().to_owned(), connected_at: row.connected_at, attributes: row.attributes }
    }
}

impl From<backend::Page<backend::Row>> for Page {
    fn from(page: backend::Page<backend::Row>) -> Self {
        Self { rows: page.items.into_iter().map(Row::from).collect(), cursor: page.cursor }
    }
}
