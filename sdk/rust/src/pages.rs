//! Iteration over lists that the host returns in pages.

use std::vec;

/// The state of an iteration: the rest of the current page, and what to fetch after it.
#[derive(Debug)]
pub struct Pages<T> {
    page: vec::IntoIter<T>,
    next_page: NextPage,
}

#[derive(Debug)]
enum NextPage {
    First,
    /// The page of this cursor.
    At(String),
    /// The current page is the last one.
    None,
}

impl<T> Pages<T> {
    pub fn new() -> Self {
        Pages { page: Vec::new().into_iter(), next_page: NextPage::First }
    }

    /// Returns the next item. `fetch` returns the page of a cursor and the cursor of the page after it; the first page
    /// has no cursor.
    ///
    /// If a page cannot be fetched, the error is the last item.
    pub fn next<E>(
        &mut self,
        fetch: impl Fn(Option<&str>) -> Result<(Vec<T>, Option<String>), E>,
    ) -> Option<Result<T, E>> {
        loop {
            if let Some(item) = self.page.next() {
                return Some(Ok(item));
            }
            let fetched = match &self.next_page {
                NextPage::First => fetch(None),
                NextPage::At(cursor) => fetch(Some(cursor)),
                NextPage::None => return None,
            };
            match fetched {
                Ok((items, cursor)) => {
                    self.page = items.into_iter();
                    self.next_page = cursor.map_or(NextPage::None, NextPage::At);
                }
                Err(error) => {
                    self.next_page = NextPage::None;
                    return Some(Err(error));
                }
            }
        }
    }
}
