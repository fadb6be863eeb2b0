//! Requests that real clients signed: boto3 1.44.5, botocore's signers, the AWS SDK for JavaScript 3.1168
//! and its signer. The first request is from AWS's published test suite.

use super::*;

const ID: &str = "AKIDEXAMPLE";
/// The secret of `ID` in AWS's documentation.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2026-01-02T03:04:05Z, when all of these were signed.
const SIGNED_AT: EpochMillis = 1_767_323_045_000;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A request whose parts a test can change.
#[derive(Clone)]
struct TestRequest {
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<Field>,
    body: Vec<u8>,
}

impl TestRequest {
    fn new(method: &'static str, url: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { method, path: path.to_owned(), query: query.to_owned(), headers, body: body.as_bytes().to_vec() }
    }

    /// Adds an `Authorization` header for `region` that covers the headers `signed`.
    fn signed(mut self, region: &str, signed: &str, signature: &str) -> Self {
        let scope = format!("{ID}/20260102/{region}/execute-api/aws4_request");
        let value = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={signature}");
        self.headers.push(("Authorization".to_owned(), value));
        self.headers.push(("X-Amz-Date".to_owned(), "20260102T030405Z".to_owned()));
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces a text in its `Authorization` header.
    fn with_authorization(mut self, from: &str, to: &str) -> Self {
        let (_, value) = self.headers.iter_mut().find(|(name, _)| name == "Authorization").unwrap();
        assert!(value.contains(from), "{value}");
        *value = value.replace(from, to);
        self
    }

    fn verify_at(&self, now: EpochMillis) -> Result<String, SignatureError> {
        self.verify_with("execute-api", now, SECRET)
    }

    fn verify_with(&self, service: &str, now: EpochMillis, secret: &str) -> Result<String, SignatureError> {
        let Self { method, path, query, headers, body } = self;
        let keys = AccessKeys::from([(ID.to_owned(), Secret::new(secret.to_owned()))]);
        parse_for_service(service, &Request { method, path, query, headers }, &keys, now)?
            .verify(BodyHash::sha256(body))
    }
}

fn posted_by_boto3() -> TestRequest {
    let url = "/prod/@connections/L0SM9cOFvHcCIhw%3D";
    let signature = "20f52047d6504e0b36df9dbaeaf1bd4bc0eedc6813f03a3635878cfb3a0e76e2";
    TestRequest::new("POST", url, &[("Host", "127.0.0.1:3001"), ("Content-Length", "14")], "hello, größe").signed(
        "eu-west-1",
        "host;x-amz-date",
        signature,
    )
}

fn posted_by_javascript() -> TestRequest {
    let headers = [
        ("content-type", "application/octet-stream"),
        ("content-length", "14"),
        ("x-amz-user-agent", "aws-sdk-js/3.1167.0"),
        ("host", "127.0.0.1:3001"),
        ("amz-sdk-invocation-id", "424eb0e3-6109-4d8d-a1de-8f1c45376a82"),
        ("amz-sdk-request", "attempt=1; max=1"),
        ("x-amz-content-sha256", "283f6c2a43bd169999417e3fd871225f445ed3b7e2dfde50fc96708604f6ce31"),
    ];
    let signed = "amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-content-sha256;\
                  x-amz-date;x-amz-user-agent";
    let signature = "09c0eea09139bbb2d397c54fb82ef195c372483e8d86d231ef55d04606e1342d";
    TestRequest::new("POST", "/prod/@connections/L0SM9cOFvHcCIhw%3D", &headers, "hello, größe").signed(
        "eu-west-1",
        signed,
        signature,
    )
}

/// Returns a request signed by botocore's signer.
fn signed_by_botocore(method: &'static str, url: &str, body: &str, signature: &str) -> TestRequest {
    TestRequest::new(method, url, &[("Host", "h.example")], body).signed("us-east-1", "host;x-amz-date", signature)
}

/// Returns a presigned URL. `expires` is the query parameter, or empty.
fn presigned(method: &'static str, path_and: &str, expires: &str, rest: &str, body: &str) -> TestRequest {
    let url = format!(
        "{path_and}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ID}%2F20260102%2Fus-east-1%2Fexecute-api%2F\
         aws4_request&X-Amz-Date=20260102T030405Z{expires}&X-Amz-SignedHeaders=host{rest}"
    );
    TestRequest::new(method, &url, &[("host", "h.example")], body)
}

fn presigned_by_botocore() -> TestRequest {
    let signature = "&X-Amz-Signature=ac082f082706e11c6dfab1fbf0e9275e0b83e466a055df99f16ee5721d99cd7d";
    presigned("GET", "/dev?userId=A%20B&room=x&", "&X-Amz-Expires=60", signature, "")
}

#[test]
fn the_first_request_of_awss_published_suite_is_accepted() {
    let headers = [
        ("Host", "example.amazonaws.com"),
        ("X-Amz-Date", "20150830T123600Z"),
        (
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
    ];
    let vanilla = TestRequest::new("GET", "/", &headers, "");
    assert_eq!(vanilla.verify_with("service", 1_440_938_160_000, SECRET), Ok(ID.to_owned()));
}

#[test]
fn requests_signed_by_boto3_are_accepted() {
    let get = TestRequest::new("GET", "/prod/@connections/L0SM9cOFvHcCIhw%3D", &[("Host", "127.0.0.1:3001")], "")
        .signed("eu-west-1", "host;x-amz-date", "218e7d2e572c36e24040f0645dd091c7685735f2f59a6f0285fb3fbe306662f1");
    let with_token =
        TestRequest::new("DELETE", "/prod/@connections/L0SM9cOFvHcCIhw%3D", &[("Host", "127.0.0.1:3001")], "")
            .with("X-Amz-Security-Token", "TOKEN")
            .signed(
                "eu-west-1",
                "host;x-amz-date;x-amz-security-token",
                "951794034f7ff8b5de20d8dfa065060e0664a5fc663b19c15c2268b426474e7d",
            );
    let odd_id =
        TestRequest::new("DELETE", "/prod/@connections/L0SM9cOFvHcCI%2F%2Bw%3D", &[("Host", "chat.example.com")], "")
            .signed("eu-west-1", "host;x-amz-date", "3b78b7fb2ddc4892ae01723f4c018465db376d6e795eeadf1405f2618a2f7da8");
    for (what, request) in [("post", posted_by_boto3()), ("get", get), ("token", with_token), ("odd id", odd_id)] {
        assert_eq!(request.verify_at(SIGNED_AT), Ok(ID.to_owned()), "{what}");
    }
}

#[test]
fn requests_signed_by_the_javascript_sdk_are_accepted_also_if_the_endpoint_ends_with_a_slash() {
    assert_eq!(posted_by_javascript().verify_at(SIGNED_AT), Ok(ID.to_owned()));
    let headers = [
        ("x-amz-user-agent", "aws-sdk-js/3.1167.0"),
        ("host", "127.0.0.1:3001"),
        ("amz-sdk-invocation-id", "3a2a1c3d-cf0d-45e4-a13a-690ff645d281"),
        ("amz-sdk-request", "attempt=1; max=1"),
        ("x-amz-content-sha256", EMPTY),
    ];
    let get = TestRequest::new("GET", "/prod//@connections/L0SM9cOFvHcCIhw%3D", &headers, "").signed(
        "eu-west-1",
        "amz-sdk-invocation-id;amz-sdk-request;host;x-amz-content-sha256;x-amz-date;x-amz-user-agent",
        "d7d204d18f61911c264dbc06257d3c3a53b03b0939c2dc37453bec1b09bd2178",
    );
    assert_eq!(get.verify_at(SIGNED_AT), Ok(ID.to_owned()));
}

#[test]
fn queries_are_sorted_by_name_and_encoded_uniformly_before_they_are_signed() {
    for (url, signature) in [
        ("/dev?Param2=value2&Param1=value1", "6afae1a545dfc6e76c830dc3c0dbad3ea6bee7092f6b4752f7eaa9abbe0c3f9e"),
        (
            "/dev?Param1=value2&Param1=Value1&param1=a",
            "abdab90c7bb7ba3e539de1a41a76704240046e60da71a7d48042d938f5153f3e",
        ),
        (
            "/dev?b=&a=%E1%88%B4&c=x%20y&d=%2B%2F%3D~-_.",
            "6995c37a41f3f892f7c650512b3b2ead5a631840e9d5c90b5d8e331f3c261a82",
        ),
        // The same query with other encodings.
        ("/dev?b&a=%e1%88%b4&c=x%20y&d=+/=~%2D_.", "6995c37a41f3f892f7c650512b3b2ead5a631840e9d5c90b5d8e331f3c261a82"),
    ] {
        assert_eq!(signed_by_botocore("GET", url, "", signature).verify_at(SIGNED_AT), Ok(ID.to_owned()), "{url}");
    }
}

#[test]
fn a_path_may_be_sent_with_another_encoding_than_it_was_signed_with() {
    const POST: &str = "2cabf89840cf10e5726c8d0ad4f35c6e0cd82ef2e12cf2d9b27b3f3c48e7f4d5";
    for (method, url, body, signature) in [
        // The paths as they were signed.
        (
            "GET",
            "/./dev/../dev//@connections/L0SM9cOFvHcCIhw=/",
            "",
            "6c9151a0f6d75adcd4d6809ff5f127153038c0041f9386745b944400eef119df",
        ),
        ("POST", "/dev/@connections/L0SM9cOFvHcCIhw=", "x", POST),
        (
            "POST",
            "/dev/%40connections/L0SM9cOFvHcCIhw%3D",
            "x",
            "a9ce7cb13a9577da444f55c7697bac5825a1a64c7754c0645236229d3fc0ebcc",
        ),
        // Encoded once for the signature, and once more by the client's HTTP library.
        ("POST", "/dev/%40connections/L0SM9cOFvHcCIhw%3D", "x", POST),
        ("POST", "/dev//@connections/L0SM9cOFvHcCIhw%3d", "x", POST),
    ] {
        assert_eq!(
            signed_by_botocore(method, url, body, signature).verify_at(SIGNED_AT),
            Ok(ID.to_owned()),
            "{method} {url}"
        );
    }
    let other = signed_by_botocore("POST", "/dev/@connections/L0SM9cOFvHcCIhx=", "x", POST);
    assert_eq!(other.verify_at(SIGNED_AT), Err(SignatureError::Wrong));
    // boto3 signed the path with `@` and `%3D`; a library that encodes the `@` too sends it.
    let mut reencoded = posted_by_boto3();
    reencoded.path = "/prod/%40connections/L0SM9cOFvHcCIhw%3D".to_owned();
    assert_eq!(reencoded.verify_at(SIGNED_AT), Ok(ID.to_owned()));
    reencoded.path = "/prod/%2540connections/L0SM9cOFvHcCIhw%3D".to_owned();
    assert_eq!(reencoded.verify_at(SIGNED_AT), Err(SignatureError::Wrong));
}

#[test]
fn the_number_of_spaces_in_a_signed_header_does_not_matter() {
    let url = "/dev";
    let signature = "1229e6e7377402cd4b9da220515113f165fedd997978fc22b4fa4b0e5ee37ccc";
    let request = |first: &str| {
        TestRequest::new(
            "GET",
            url,
            &[("Host", "h.example"), ("My-Header1", first), ("My-Header2", "\"a   b   c\"")],
            "",
        )
        .signed("us-east-1", "host;my-header1;my-header2;x-amz-date", signature)
    };
    assert_eq!(request("  a   b   c  ").verify_at(SIGNED_AT), Ok(ID.to_owned()));
    assert_eq!(request("a b c").verify_at(SIGNED_AT), Ok(ID.to_owned()));
    assert_eq!(request("a bc").verify_at(SIGNED_AT), Err(SignatureError::Wrong));
}

#[test]
fn an_unsigned_body_is_accepted_only_if_the_signature_covers_unsigned_payload() {
    let url = "/dev/@connections/L0SM9cOFvHcCIhw%3D";
    let signature = "93987852f6fb3374196b00cb197f5fd772c19aeb63418545b9cc74e73b0ac364";
    let request = |declared: &str, body: &str| {
        TestRequest::new("POST", url, &[("Host", "h.example"), ("X-Amz-Content-SHA256", declared)], body).signed(
            "us-east-1",
            "host;x-amz-content-sha256;x-amz-date",
            signature,
        )
    };
    assert_eq!(request("UNSIGNED-PAYLOAD", "anything").verify_at(SIGNED_AT), Ok(ID.to_owned()));
    assert_eq!(request("UNSIGNED-PAYLOAD", "something else").verify_at(SIGNED_AT), Ok(ID.to_owned()));
    assert_eq!(request(EMPTY, "").verify_at(SIGNED_AT), Err(SignatureError::Wrong));
    assert_eq!(
        posted_by_boto3().with("x-amz-content-sha256", "UNSIGNED-PAYLOAD").verify_at(SIGNED_AT),
        Err(SignatureError::Wrong)
    );
    let streamed = posted_by_boto3().with("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    assert!(matches!(streamed.verify_at(SIGNED_AT), Err(SignatureError::Malformed(_))));
}

#[test]
fn a_presigned_url_is_accepted_until_it_expires() {
    let week = "&X-Amz-Expires=604800";
    let delete = presigned(
        "DELETE",
        "/prod/@connections/L0SM9cOFvHcCIhw%3D?",
        week,
        "&X-Amz-Security-Token=T%2F%2B%3D\
         &X-Amz-Signature=803f70d27fdc08f332197821d3f09ceff1864e764c7fc24fa4dee623081c8276",
        "",
    );
    let post = |body| {
        let signature = "&X-Amz-Signature=1f773cc18bfd5c3e7066ef03962ed6d2461cfe82c477336255a7b5a8c93822db";
        presigned("POST", "/dev/@connections/L0SM9cOFvHcCIhw%3D?", week, signature, body)
    };
    let javascript = presigned(
        "GET",
        "/dev?userId=A%20B&room=x&room=a&",
        "&X-Amz-Expires=60",
        "&X-Amz-Signature=4cb3af2aea9d2ff68803223ea84c826d8edd973db7843d2a9ff976c29f825219",
        "",
    );
    for (request, seconds) in
        [(presigned_by_botocore(), 60), (javascript, 60), (delete, 604_800), (post("hello"), 604_800)]
    {
        let last = SIGNED_AT + seconds * SECOND;
        assert_eq!(request.verify_at(SIGNED_AT), Ok(ID.to_owned()), "{}", request.query);
        assert_eq!(request.verify_at(last), Ok(ID.to_owned()), "{}", request.query);
        let expired = SignatureError::Expired { ago: seconds + 1, valid: seconds };
        assert_eq!(request.verify_at(last + SECOND), Err(expired), "{}", request.query);
    }
    assert_eq!(post("hallo").verify_at(SIGNED_AT), Err(SignatureError::Wrong));
}

#[test]
fn a_presigned_url_that_is_valid_for_more_than_a_week_or_repeats_a_field_is_rejected() {
    let changed = |from: &str, to: &str| {
        let mut request = presigned_by_botocore();
        assert!(request.query.contains(from));
        request.query = request.query.replace(from, to);
        request.verify_at(SIGNED_AT)
    };
    assert_eq!(changed("Expires=60", "Expires=61"), Err(SignatureError::Wrong));
    assert_eq!(changed("Expires=60", "Expires=604800"), Err(SignatureError::Wrong));
    for expires in ["604801", "0", "-1", "", "99999999999999999999"] {
        let refused = changed("Expires=60", &format!("Expires={expires}"));
        assert!(matches!(refused, Err(SignatureError::Malformed(_))), "{expires} {refused:?}");
    }
    assert_eq!(changed("room=x", "room=y"), Err(SignatureError::Wrong));
    assert_eq!(changed("&room=x", ""), Err(SignatureError::Wrong));
    assert_eq!(changed("X-Amz-Algorithm=AWS4-HMAC-SHA256", ""), Err(SignatureError::Unsigned));
    for twice in ["X-Amz-Signature=00", "x-amz-signature=00", "X-Amz-Date=20260102T030405Z", "X%2DAmz-Expires=60"] {
        let refused = changed("&room=x", &format!("&room=x&{twice}"));
        assert!(matches!(refused, Err(SignatureError::Malformed(_))), "{twice} {refused:?}");
    }
    let both = presigned_by_botocore().signed("us-east-1", "host", "00");
    assert!(matches!(both.verify_at(SIGNED_AT), Err(SignatureError::Malformed(_))));
}

#[test]
fn the_clocks_may_differ_by_five_minutes_and_no_second_more() {
    for request in [posted_by_boto3(), posted_by_javascript()] {
        for now in [SIGNED_AT - 5 * MINUTE, SIGNED_AT, SIGNED_AT + 5 * MINUTE] {
            // Verified twice, because the retries of an SDK within a second have the same signature.
            assert_eq!(
                [request.verify_at(now), request.verify_at(now)],
                [Ok(ID.to_owned()), Ok(ID.to_owned())],
                "{now}"
            );
        }
        let late = SignatureError::Expired { ago: 301, valid: 300 };
        assert_eq!(request.verify_at(SIGNED_AT + 5 * MINUTE + SECOND), Err(late));
        assert_eq!(
            request.verify_at(SIGNED_AT + 24 * 60 * MINUTE),
            Err(SignatureError::Expired { ago: 86_400, valid: 300 })
        );
        assert_eq!(request.verify_at(SIGNED_AT - 5 * MINUTE - SECOND), Err(SignatureError::Early { ahead: 301 }));
    }
    assert_eq!(presigned_by_botocore().verify_at(SIGNED_AT - 5 * MINUTE), Ok(ID.to_owned()));
    assert_eq!(
        presigned_by_botocore().verify_at(SIGNED_AT - 5 * MINUTE - SECOND),
        Err(SignatureError::Early { ahead: 301 })
    );
    // Another date with the same signature.
    let mut moved = posted_by_boto3();
    moved.headers.iter_mut().find(|(name, _)| name == "X-Amz-Date").unwrap().1 = "20260102T030406Z".to_owned();
    assert_eq!(moved.verify_at(SIGNED_AT), Err(SignatureError::Wrong));
}

#[test]
fn a_request_with_another_secret_another_key_or_a_changed_part_is_rejected() {
    for request in [posted_by_boto3(), posted_by_javascript()] {
        assert_eq!(request.verify_with("execute-api", SIGNED_AT, "secret"), Err(SignatureError::Wrong));
        assert_eq!(request.verify_with("execute-api", SIGNED_AT, ""), Err(SignatureError::Wrong));
        let other_key = request.clone().with_authorization(ID, "AKIDOTHER");
        assert_eq!(other_key.verify_at(SIGNED_AT), Err(SignatureError::UnknownKey("AKIDOTHER".to_owned())));
        assert_eq!(TestRequest { method: "PUT", ..request.clone() }.verify_at(SIGNED_AT), Err(SignatureError::Wrong));
        assert_eq!(
            TestRequest { query: "a=b".to_owned(), ..request.clone() }.verify_at(SIGNED_AT),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            TestRequest { path: "/dev".to_owned(), ..request.clone() }.verify_at(SIGNED_AT),
            Err(SignatureError::Wrong)
        );
        assert_eq!(request.clone().with("host", "other").verify_at(SIGNED_AT), Err(SignatureError::Wrong));
        assert_eq!(
            request.clone().with_authorization("eu-west-1", "eu-west-2").verify_at(SIGNED_AT),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            request.clone().with_authorization("Signature=", "Signature=00").verify_at(SIGNED_AT),
            Err(SignatureError::Wrong)
        );
        let unsigned = TestRequest { headers: vec![("Host".to_owned(), "h".to_owned())], ..request };
        assert_eq!(unsigned.verify_at(SIGNED_AT), Err(SignatureError::Unsigned));
        assert_eq!(unsigned.with("Authorization", "Bearer AWS4").verify_at(SIGNED_AT), Err(SignatureError::Unsigned));
    }
    let body = b"hello, groesse".to_vec();
    assert_eq!(
        TestRequest { body: body.clone(), ..posted_by_boto3() }.verify_at(SIGNED_AT),
        Err(SignatureError::Wrong)
    );
    assert_eq!(TestRequest { body, ..posted_by_javascript() }.verify_at(SIGNED_AT), Err(SignatureError::OtherBody));
}

#[test]
fn the_host_and_the_headers_of_jackfield_must_be_signed() {
    let without_host = posted_by_boto3().with_authorization("host;", "");
    assert_eq!(without_host.verify_at(SIGNED_AT), Err(SignatureError::NotCovered("host".to_owned())));
    let added = posted_by_boto3().with("X-Jackfield-Close-Code", "4000");
    assert_eq!(added.verify_at(SIGNED_AT), Err(SignatureError::NotCovered("x-jackfield-close-code".to_owned())));
    let missing = posted_by_boto3().with_authorization("host;", "host;x-a;");
    assert_eq!(missing.verify_at(SIGNED_AT), Err(SignatureError::Missing("x-a".to_owned())));
}

#[test]
fn a_malformed_signature_is_reported_as_malformed() {
    for (from, to) in [
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256"),
        ("execute-api", "s3"),
        ("aws4_request", "aws4"),
        ("20260102/", "20260103/"),
        ("20260102/", "/"),
        (ID, ""),
        (ID, "AKID EXAMPLE"),
        (ID, "AKID\u{1b}[31m"),
        ("eu-west-1", "eu\nwest"),
        ("Credential=", "Credentials="),
        ("Signature=", "Signature=x"),
        ("Signature=2", "Signature="),
        ("Signature=", "Signature=00, Signature="),
        ("host;x-amz-date", "x-amz-date;host"),
        ("host;x-amz-date", "host;host;x-amz-date"),
        ("host;x-amz-date", "host;"),
        ("host;x-amz-date", "Host;x-amz-date"),
        ("host;x-amz-date", "host;x-\u{1b}[31m"),
        ("host;x-amz-date", &format!("host;{:x<101}", "")),
        ("host;x-amz-date", ""),
    ] {
        let refused = posted_by_boto3().with_authorization(from, to).verify_at(SIGNED_AT);
        assert!(matches!(refused, Err(SignatureError::Malformed(_))), "{from} {to} {refused:?}");
    }
    for date in ["", "20260102", "20260102T030405", "2026-01-02T03:04:05Z", "20260102t030405Z", "20261302T030405Z"] {
        let mut request = posted_by_boto3();
        request.headers.iter_mut().find(|(name, _)| name == "X-Amz-Date").unwrap().1 = date.to_owned();
        let refused = request.verify_at(SIGNED_AT);
        assert!(matches!(refused, Err(SignatureError::Malformed(_))), "{date} {refused:?}");
    }
    let twice = posted_by_boto3().with("x-amz-date", "20260102T030405Z").verify_at(SIGNED_AT);
    assert!(matches!(twice, Err(SignatureError::Malformed(_))));
}

#[test]
fn debug_output_does_not_contain_a_secret() {
    let keys = AccessKeys::from([(ID.to_owned(), Secret::new(SECRET.to_owned()))]);
    assert_eq!(format!("{keys:?}"), format!("{{{ID:?}: Secret}}"));
}

proptest::proptest! {
    #[test]
    fn arbitrary_requests_are_rejected_without_a_panic(
        path in ".{0,40}",
        query in "(X-Amz-(Algorithm=AWS4-HMAC-SHA256|Date|Credential|Expires|SignedHeaders|Signature)[=&%/;]?.{0,20}&?){0,6}",
        value in "AWS4-HMAC-SHA256 (Credential|SignedHeaders|Signature|[=,/;]|.{0,10}){0,9}",
        date in "[0-9]{8}T[0-9]{6}Z|.{0,20}",
        hash in ".{0,70}",
    ) {
        let headers = [("authorization", &*value), ("x-amz-date", &date), ("x-amz-content-sha256", &hash), ("host", "h")];
        let request = TestRequest::new("POST", "", &headers, "hello");
        let both = TestRequest { path: path.clone(), query: query.clone(), ..request };
        let presigned = TestRequest { headers: vec![("host".to_owned(), "h".to_owned())], ..both.clone() };
        let header = TestRequest { query: String::new(), ..both.clone() };
        for request in [both, presigned, header] {
            assert!(request.verify_at(SIGNED_AT).is_err());
        }
    }
}

// ---- signatures of this server -------------------------------------------------------------

#[test]
fn a_signature_of_this_server_equals_that_of_botocore_and_is_accepted() {
    let signer = Signer {
        access_key: ID.to_owned(),
        secret: Secret::new(SECRET.to_owned()),
        region: "eu-west-1".to_owned(),
        service: "lambda",
    };
    let arn = "arn%3Aaws%3Alambda%3Aeu-west-1%3A000000000000%3Afunction%3Achat";
    for (host, url, expected) in [
        (
            "lambda.eu-west-1.amazonaws.com",
            "/2015-03-31/functions/chat/invocations".to_owned(),
            "7c14a6210639e18ab65aa0c058dd7d7c42e8b174e1c8e185ae9c2a67cd53aa5c",
        ),
        (
            "127.0.0.1:4566",
            format!("/2015-03-31/functions/{arn}/invocations?Qualifier=live"),
            "f4da2f301bf7b4e48107d570685bd00d95dfec14e6e3b0963fca66beda310b44",
        ),
    ] {
        let headers =
            [("host", host), ("content-type", "application/json"), ("x-amz-invocation-type", "RequestResponse")];
        let mut request = TestRequest::new("POST", &url, &headers, "hello, größe");
        let TestRequest { method, path, query, headers, body } = &request;
        let signature = signer.sign(&Request { method, path, query, headers }, BodyHash::sha256(body), SIGNED_AT);
        assert_eq!(signature.amz_date, "20260102T030405Z");
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={ID}/20260102/eu-west-1/lambda/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-invocation-type, Signature={expected}"
        );
        assert_eq!(signature.authorization, authorization);
        request = request.with("x-amz-date", &signature.amz_date).with("authorization", &signature.authorization);
        assert_eq!(request.verify_with("lambda", SIGNED_AT + SECOND, SECRET), Ok(ID.to_owned()));
        assert_eq!(request.verify_with("lambda", SIGNED_AT, "another"), Err(SignatureError::Wrong));
        request.body.push(b'!');
        assert_eq!(request.verify_with("lambda", SIGNED_AT, SECRET), Err(SignatureError::Wrong));
    }
}
