//! Lists that come a page at a time, told as one.

use std::vec;

/// Where such a list stands.
#[derive(Debug)]
pub struct Pages<T> {
    page: vec::IntoIter<T>,
    next: Next,
}

/// What to ask for when the page is used up.
#[derive(Debug)]
enum Next {
    First,
    After(String),
    Nothing,
}

impl<T> Pages<T> {
    pub fn new() -> Self {
        Pages { page: Vec::new().into_iter(), next: Next::First }
    }

    /// The next item; `fetch` gets the cursor of the page that it is to fetch, none for the first.
    ///
    /// After a page that could not be fetched there is nothing more.
    pub fn next<E>(
        &mut self,
        fetch: impl Fn(Option<&str>) -> Result<(Vec<T>, Option<String>), E>,
    ) -> Option<Result<T, E>> {
        loop {
            if let Some(item) = self.page.next() {
                return Some(Ok(item));
            }
            let fetched = match &self.next {
                Next::First => fetch(None),
                Next::After(cursor) => fetch(Some(cursor)),
                Next::Nothing => return None,
            };
            match fetched {
                Ok((items, cursor)) => {
                    self.page = items.into_iter();
                    self.next = cursor.map_or(Next::Nothing, Next::After);
                }
                Err(error) => {
                    self.next = Next::Nothing;
                    return Some(Err(error));
                }
            }
        }
    }
}
