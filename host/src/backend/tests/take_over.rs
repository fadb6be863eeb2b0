//! How a node takes over the rows of another one, when the worst happens in between.

use super::super::rows::Rows;
use super::super::{RedisOptions, RedisRows, Renewal};
use super::engines::scan;
use super::*;

/// How long the first node of a test has its number, which nothing renews.
const LEASE: Duration = Duration::from_millis(200);

fn redis(backend: &Backend) -> &RedisRows {
    match &backend.rows {
        Rows::Redis(redis) => redis,
        Rows::Sled(_) => panic!("the store is in Redis"),
    }
}

/// Two nodes of one store: the first has a row, and its lease ends; the second has taken its number over, and no row yet.
/// Returns the name of the first one as well.
async fn gone_and_heir(options: &RedisOptions) -> (Backend, Backend, String) {
    let gone = redis_server::connect(&RedisOptions { lease: LEASE, ..options.clone() }).await;
    let row = row(&gone, &[("room", "1")]);
    gone.insert_row(row).await.unwrap();
    let heir = redis_server::connect(options).await;
    stage(&heir);
    loop {
        assert_eq!(heir.renew_lease().await, Ok(Renewal::Renewed));
        if let Some(name) = redis(&heir).node().take_over().await.unwrap().pop() {
            return (gone, heir, name);
        }
        tokio::time::sleep(LEASE / 4).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_whose_take_over_was_not_answered_are_taken_by_the_next_call() {
    let server = redis_server::Redis::start();
    let options = server.options();
    let (_gone, heir, name) = gone_and_heir(&options).await;
    // Redis runs the script after the time that a call waits.
    redis_server::run(&options, ::redis::cmd("CLIENT").arg("PAUSE").arg(1500).arg("ALL")).await;
    let unanswered = redis(&heir).adopt(stage(&heir), &name).await;
    assert!(matches!(unanswered, Err(BackendError::Unavailable(_))), "{unanswered:?}");
    assert_eq!(heir.left_behind(stage(&heir), None), []);

    let adopted = loop {
        match heir.adopt_rows().await {
            Ok(count) => break count,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(adopted, 1);
    assert_eq!(heir.left_behind(stage(&heir), None).len(), 1);
    assert_eq!(scan(&heir).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_a_node_that_was_taken_over_is_not_written_again() {
    let options = redis_server::options();
    let (gone, heir, _) = gone_and_heir(&options).await;
    let [row] = &scan(&gone).await[..] else { panic!("one row is there until it is taken") };
    let change = || shared(&gone).put(row.id, fields(&[("room", "2")]));
    // While rows are being taken, and afterwards.
    for taken in [1, 0] {
        assert_eq!(heir.adopt_rows().await, Ok(taken));
        let changed = change().await;
        assert!(matches!(changed, Err(BackendError::Unavailable(_))), "{changed:?}");
        assert!(gone.save_rows_again().await.is_err());
        assert_eq!(scan(&heir).await, []);
        assert_eq!(heir.verify().await, Ok(Vec::new()));
    }
    assert_eq!(gone.renew_lease().await, Ok(Renewal::Lost));
    // Under a new epoch the node writes again.
    gone.claim_node_again().await.unwrap();
    gone.insert_row(row.clone()).await.unwrap();
    assert_eq!(scan(&heir).await.len(), 1);
}
