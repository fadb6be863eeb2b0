package jackfield

import (
	"iter"
	"time"
)

// ConnectionStore has one row for each live connection, with attributes that are all indexed. The host adds the row
// before $connect runs and removes it after $disconnect has run, so that a handler has nothing to clean up.
//
// A row has at most 64 attributes, with names of at most 64 bytes and values of at most 1,024 bytes.
var ConnectionStore connectionStore

type connectionStore struct{}

// Row is the row of a connection.
type Row struct {
	ConnectionID string
	// ConnectedAt is the time at which the upgrade request arrived.
	ConnectedAt time.Time
	// Attributes are sorted by name, then by value. A name can have several values.
	Attributes []Field
}

// Attribute returns the first value of the attribute, and "" if there is none.
func (row *Row) Attribute(name string) string {
	value, _ := row.LookupAttribute(name)
	return value
}

// LookupAttribute returns the first value of the attribute, and whether there is one.
func (row *Row) LookupAttribute(name string) (string, bool) {
	return lookup(row.Attributes, name)
}

// RowPage is a page of rows.
type RowPage struct {
	Rows []Row
	// Cursor is that of the next page; nil if this page is the last one.
	Cursor *string
}

// Get returns the row of a connection. The error is ErrNoSuchConnection if it has none.
func (connectionStore) Get(id string) (Row, error) {
	return currentHost().GetRow(id)
}

// Put replaces all attributes of the row.
func (connectionStore) Put(id string, attributes ...Field) error {
	return currentHost().PutRow(id, attributes)
}

// Add adds one attribute. Nothing changes if the row has it already. A name can have several values, so that a
// connection can be in several rooms.
func (connectionStore) Add(id, name, value string) error {
	return currentHost().AddAttribute(id, name, value)
}

// Remove removes one attribute. It is no error if the row does not have it.
func (connectionStore) Remove(id, name, value string) error {
	return currentHost().RemoveAttribute(id, name, &value)
}

// RemoveAll removes every attribute of that name.
func (connectionStore) RemoveAll(id, name string) error {
	return currentHost().RemoveAttribute(id, name, nil)
}

// Query iterates over the rows that have this attribute. The rows are fetched in pages, when they are needed. An error
// is the last item.
func (connectionStore) Query(name, value string) iter.Seq2[Row, error] {
	return pages(func(cursor *string) ([]Row, *string, error) {
		page, err := currentHost().QueryRows(name, value, cursor)
		return page.Rows, page.Cursor, err
	})
}

// Scan iterates over all rows, as Query does.
func (connectionStore) Scan() iter.Seq2[Row, error] {
	return pages(func(cursor *string) ([]Row, *string, error) {
		page, err := currentHost().ScanRows(cursor)
		return page.Rows, page.Cursor, err
	})
}

// QueryPage returns the page of a cursor, which is nil for the first page: up to 256 of the rows that have this
// attribute.
func (connectionStore) QueryPage(name, value string, cursor *string) (RowPage, error) {
	return currentHost().QueryRows(name, value, cursor)
}

// ScanPage returns the page of a cursor, which is nil for the first page: up to 256 of all rows.
func (connectionStore) ScanPage(cursor *string) (RowPage, error) {
	return currentHost().ScanRows(cursor)
}

// pages iterates over the items of all pages. If a page cannot be fetched, the error is the last item.
func pages[T any](fetch func(cursor *string) ([]T, *string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var cursor *string
		for {
			items, next, err := fetch(cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == nil {
				return
			}
			cursor = next
		}
	}
}
