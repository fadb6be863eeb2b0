// The AWS clients that go to the host.
