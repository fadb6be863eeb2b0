// The web platform: URL, fetch, streams and so on.
