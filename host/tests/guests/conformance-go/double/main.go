// A driver of the test double: reads one JSON object a line from stdin, and writes one a line to stdout.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"conformance/handler"

	"jackfield.dev/jackfield"
	"jackfield.dev/jackfield/jackfieldtest"
)

// setup is the key setup of the cases.
type setup struct {
	Routes  []string `json:"routes"`
	Buckets map[string]struct {
		Size *int64 `json:"size"`
		Keys *int64 `json:"keys"`
	} `json:"buckets"`
	Config         map[string]string `json:"config"`
	StageVariables map[string]string `json:"stage-variables"`
}

type request struct {
	New       *setup      `json:"new"`
	Connect   *string     `json:"connect"`
	Query     string      `json:"query"`
	Headers   [][2]string `json:"headers"`
	Send      *string     `json:"send"`
	Text      *string     `json:"text"`
	Hex       string      `json:"hex"`
	TakePosts *string     `json:"take-posts"`
	Close     *string     `json:"close"`
	Code      int         `json:"code"`
	Reason    string      `json:"reason"`
	Closed    *string     `json:"closed"`
	Pass      *int64      `json:"pass"`
}

type object = map[string]any

// routed is the handler with the routes of its manifest.
type routed struct {
	jackfield.Plugin
	routes []string
}

func (routed routed) RouteKeys() []string {
	return routed.routes
}

type driver struct {
	host  *jackfieldtest.Host
	peers map[string]*jackfieldtest.Peer
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	output := json.NewEncoder(os.Stdout)
	var driver driver
	for lines.Scan() {
		var request request
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			fail(err)
		}
		if err := output.Encode(driver.answer(&request)); err != nil {
			fail(err)
		}
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (driver *driver) answer(request *request) object {
	switch {
	case request.New != nil:
		driver.start(request.New)
	case request.Connect != nil:
		upgrade := driver.host.Upgrade(request.Query)
		for _, header := range request.Headers {
			upgrade.Header(header[0], header[1])
		}
		peer, err := upgrade.Connect()
		var rejection *jackfieldtest.ConnectError
		if errors.As(err, &rejection) {
			return object{"rejected": rejection.StatusCode}
		}
		if err != nil {
			fail(err)
		}
		driver.peers[*request.Connect] = peer
	case request.Send != nil:
		return driver.send(driver.peers[*request.Send], request)
	case request.TakePosts != nil:
		posts := []object{}
		for _, post := range driver.host.TakePostsTo(driver.peers[*request.TakePosts]) {
			if post.IsBinary() {
				posts = append(posts, object{"hex": hex.EncodeToString(post.Bytes())})
			} else {
				posts = append(posts, object{"text": post.String()})
			}
		}
		return object{"posts": posts}
	case request.Close != nil:
		// The host logs a failure of $disconnect.
		_ = driver.peers[*request.Close].CloseWith(request.Code, request.Reason)
	case request.Closed != nil:
		return closed(driver.peers[*request.Closed])
	case request.Pass != nil:
		driver.host.Advance(time.Duration(*request.Pass) * time.Millisecond)
	default:
		fail(errors.New("an unknown request"))
	}
	return object{}
}

func (driver *driver) start(setup *setup) {
	if driver.host != nil {
		driver.host.Close()
	}
	host, err := jackfieldtest.Start()
	if err != nil {
		fail(err)
	}
	host.Use(routed{handler.Plugin, setup.Routes})
	host.AddBucket("conformance")
	for name, bucket := range setup.Buckets {
		if bucket.Size != nil && bucket.Keys != nil {
			host.AddBucketWith(name, *bucket.Size, *bucket.Keys)
		} else {
			host.AddBucket(name)
		}
	}
	for key, value := range setup.Config {
		host.SetConfig(key, value)
	}
	for name, value := range setup.StageVariables {
		host.SetStageVariable(name, value)
	}
	driver.host, driver.peers = host, map[string]*jackfieldtest.Peer{}
}

// send sends a message. Where the real host ends the event, the test double panics.
func (driver *driver) send(peer *jackfieldtest.Peer, request *request) (answer object) {
	defer func() {
		if recover() != nil {
			answer = object{"failed": true}
		}
	}()
	body, err := hex.DecodeString(request.Hex)
	if err != nil {
		fail(err)
	}
	payload := jackfield.Binary(body)
	if request.Text != nil {
		payload = jackfield.Text(*request.Text)
	}
	response, err := peer.SendPayload(payload)
	switch {
	case err == nil:
		return object{"text": response.Body.String()}
	case !peer.IsOpen():
		return closed(peer)
	}
	return object{"failed": true}
}

func closed(peer *jackfieldtest.Peer) object {
	frame := peer.CloseFrame()
	if frame == nil {
		fail(errors.New("the connection is open"))
	}
	return object{"closed": []any{frame.Code, frame.Reason}}
}
