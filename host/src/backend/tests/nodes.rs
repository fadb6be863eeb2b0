//! Several nodes on one Redis: what each of them finds after another one, or Redis, has failed.

use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Connects nodes with these leases to the same empty store.
async fn nodes(leases: [Duration; 2]) -> [Backend; 2] {
    let options = redis_server::options();
    let [first, second] = leases.map(|lease| RedisOptions { lease, ..options.clone() });
    [redis_server::connect(&first).await, redis_server::connect(&second).await]
}

/// The first node has a lease that ends at once, the other one a lease that does not end during a test.
async fn short_lived_and_other() -> [Backend; 2] {
    nodes([Duration::from_millis(50), LONG]).await
}

/// Removes all keys of a store, as a Redis that was killed and has no data.
async fn lose_data(backend: &Backend) {
    let Rows::Redis(redis) = &backend.rows else { unreachable!("the store is Redis") };
    redis.lose_data().await;
}

#[tokio::test]
async fn rows_are_written_again_until_all_are_although_the_first_renewal_had_no_answer() {
    let [node, other] = nodes([LONG, LONG]).await;
    let row = row(&node, &[("room", "lobby")]);
    node.insert_row(row.clone()).await.unwrap();
    lose_data(&node).await;
    assert_eq!(matching(&other, "room", "lobby").await, []);
    // The first renewal may be that of an event, which does not write the rows.
    assert_eq!(node.renew_lease().await, Ok(Renewal::Restored));
    assert_eq!(node.renew_lease().await, Ok(Renewal::Restored));
    assert_eq!(node.save_rows_again().await, Ok(1));
    assert_eq!(node.renew_lease().await, Ok(Renewal::Renewed));
    assert_eq!(node.save_rows_again().await, Ok(0));
    assert_eq!(matching(&other, "room", "lobby").await, [row.id]);
    assert_consistent(&node).await;
}

#[tokio::test]
async fn rows_that_were_written_again_are_taken_over_when_their_node_is_gone() {
    let [node, other] = short_lived_and_other().await;
    let row = row(&node, &[("room", "lobby")]);
    node.insert_row(row.clone()).await.unwrap();
    lose_data(&node).await;
    node.renew_lease().await.unwrap();
    node.save_rows_again().await.unwrap();
    adopt(&other).await;
    assert_eq!(other.left_behind(stage(&other), None), [row]);
    assert_eq!(matching(&other, "room", "lobby").await, []);
}

#[tokio::test]
async fn a_row_that_only_redis_has_is_deleted_when_all_rows_are_written_again() {
    let [node, other] = nodes([LONG, LONG]).await;
    let kept = row(&node, &[("room", "lobby")]);
    let deleted = row(&node, &[("room", "lobby")]);
    for row in [&kept, &deleted] {
        node.insert_row(row.clone()).await.unwrap();
    }
    let Rows::Redis(redis) = &node.rows else { unreachable!("the store is Redis") };
    redis.forget_row(stage(&node), deleted.id);
    lose_name_of_data(&node).await;
    assert_eq!(node.renew_lease().await, Ok(Renewal::Restored));
    node.save_rows_again().await.unwrap();
    assert_eq!(matching(&other, "room", "lobby").await, [kept.id]);
    assert_consistent(&node).await;
}

/// Makes a store look like one that was started again with the data of an earlier moment.
async fn lose_name_of_data(backend: &Backend) {
    let Rows::Redis(redis) = &backend.rows else { unreachable!("the store is Redis") };
    redis.lose_key("nodes", "since").await;
}

#[tokio::test]
async fn a_node_is_listed_from_its_first_claim_on_and_its_record_changes_with_its_next_renewal() {
    let backend = redis_server::backend().await;
    let listed = async || backend.live_nodes().await.unwrap().unwrap();
    let [first] = &listed().await[..] else { panic!("one node has claimed its number") };
    let description = &first.record.description;
    assert_eq!((&*description.version, &*description.content), (env!("CARGO_PKG_VERSION"), ""));
    assert_eq!(first.record.lease_millis, 10_000);
    assert!(first.renewed_millis_ago.is_some_and(|age| age < 10_000), "{first:?}");

    let description = NodeDescription { content: "486e427a3e03".to_owned(), connections: 3, ..description.clone() };
    backend.describe_node(description.clone());
    assert_eq!(listed().await[0].record.description.content, "");
    assert_eq!(backend.renew_lease().await, Ok(Renewal::Renewed));
    let renewed = &listed().await[0].record;
    assert_eq!((&renewed.description, renewed.node), (&description, first.record.node));
    assert_eq!(backend.node_record(description).node, first.record.node);

    let state = backend.node_state().unwrap();
    assert_eq!((state.nodes, state.unsaved_rows, state.is_store_up, state.store_outages), (1, 0, true, 0));
    backend.leave().await.unwrap();
    assert_eq!(listed().await, []);
}

/// Waits until a node has taken over rows.
async fn adopt(backend: &Backend) {
    for _ in 0..1000 {
        backend.renew_lease().await.unwrap();
        backend.adopt_rows().await.unwrap();
        if !backend.stages_left_behind().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the lease of the other node does not end");
}

#[tokio::test]
async fn a_node_that_was_taken_over_changes_nothing_any_more() {
    let [node, other] = short_lived_and_other().await;
    let [first, late] = [row(&node, &[("room", "lobby")]), row(&node, &[("room", "lobby")])];
    node.insert_row(first.clone()).await.unwrap();
    adopt(&other).await;
    assert!(matches!(node.insert_row(late.clone()).await, Err(BackendError::Unavailable(_))));
    assert!(add(&node, first.id, "room", "hall").await.is_err());
    // The one that has the row runs its `$disconnect`.
    assert!(node.delete_row(stage(&node), first.id).await.is_err());
    assert_eq!(shared(&other).get(first.id).await, Ok(first.clone()));
    let stage_of_node = node.stages().id(ApiNumber(0), "new");
    assert!(node.insert_row(Row { stage: stage_of_node, ..late }).await.is_err());
    assert_eq!(node.renew_lease().await, Ok(Renewal::Lost));
    node.claim_node_again().await.unwrap();
    node.delete_row(stage(&node), first.id).await.unwrap();
    for name in ["lobby", "hall"] {
        assert_eq!(matching(&other, "room", name).await, []);
    }
    other.delete_row(stage(&other), first.id).await.unwrap();
    assert_eq!(shared(&node).get(first.id).await, Err(BackendError::NoSuchConnection));
    assert_consistent(&other).await;
}

#[tokio::test]
async fn rows_are_taken_over_again_if_the_answer_with_them_was_lost() {
    let [node, other] = short_lived_and_other().await;
    let row = row(&node, &[]);
    node.insert_row(row.clone()).await.unwrap();
    adopt(&other).await;
    let Rows::Redis(redis) = &other.rows else { unreachable!("the store is Redis") };
    redis.forget_adopted(stage(&other), row.id);
    assert_eq!(other.left_behind(stage(&other), None), []);
    other.renew_lease().await.unwrap();
    assert_eq!(other.adopt_rows().await, Ok(1));
    assert_eq!(other.left_behind(stage(&other), None), [row]);
    // And not once more, although its `$disconnect` may still run.
    other.renew_lease().await.unwrap();
    assert_eq!(other.adopt_rows().await, Ok(0));
}

#[tokio::test]
async fn no_node_is_taken_over_because_redis_was_away_from_all_of_them() {
    let lease = Duration::from_millis(500);
    let [node, other] = nodes([lease, lease]).await;
    node.insert_row(row(&node, &[])).await.unwrap();
    // No node can renew its lease meanwhile. One of them is the first that can again.
    tokio::time::sleep(2 * lease).await;
    other.renew_lease().await.unwrap();
    assert_eq!(other.adopt_rows().await, Ok(0));
    assert_eq!(node.renew_lease().await, Ok(Renewal::Renewed));
}

#[tokio::test]
async fn a_node_is_gone_when_it_was_taken_over_and_not_when_its_lease_has_ended() {
    let [node, other] = nodes([Duration::from_millis(50), Duration::from_millis(200)]).await;
    node.insert_row(row(&node, &[])).await.unwrap();
    let (Rows::Redis(redis), Rows::Redis(gone)) = (&other.rows, &node.rows) else { unreachable!("the store is Redis") };
    // A store that has had data for less than two leases knows of no node that it is gone.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(redis.node().is_gone(gone.node().id()).await, Ok(false));
    adopt(&other).await;
    assert_eq!(redis.node().is_gone(gone.node().id()).await, Ok(true));
}

#[tokio::test]
async fn a_node_whose_number_was_taken_meanwhile_gets_messages_under_another_one() {
    let [node, other] = short_lived_and_other().await;
    node.insert_row(row(&node, &[])).await.unwrap();
    let (channel, mut received) = node.channel().await.unwrap().unwrap();
    let (other_channel, _others) = other.channel().await.unwrap().unwrap();
    let before = channel.node();
    adopt(&other).await;
    let Rows::Redis(redis) = &other.rows else { unreachable!("the store is Redis") };
    redis.take_number(before).await;
    assert_eq!(node.renew_lease().await, Ok(Renewal::Lost));
    node.claim_node_again().await.unwrap();
    assert_ne!(channel.node(), before);
    assert_eq!(node.renew_lease().await, Ok(Renewal::Renewed));
    let message = (channel.node(), Arc::from(&b"hello"[..]));
    for _ in 0..1000 {
        if other_channel.send(std::slice::from_ref(&message)).await == Ok(vec![true]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(received.recv().await, Some(b"hello".to_vec()));
    let row = row(&node, &[("room", "lobby")]);
    node.insert_row(row.clone()).await.unwrap();
    assert_eq!(matching(&other, "room", "lobby").await, [row.id]);
}

#[tokio::test]
async fn a_node_that_was_taken_over_has_lost_its_lease_also_after_redis_has_lost_its_data() {
    let [node, other] = short_lived_and_other().await;
    let row = row(&node, &[("room", "lobby")]);
    node.insert_row(row.clone()).await.unwrap();
    adopt(&other).await;
    other.delete_row(stage(&other), row.id).await.unwrap();
    lose_data(&other).await;
    // It is the first one that renews its lease, and writes its rows.
    assert_eq!(node.renew_lease().await, Ok(Renewal::Restored));
    node.save_rows_again().await.unwrap();
    assert_eq!(other.renew_lease().await, Ok(Renewal::Restored));
    other.save_rows_again().await.unwrap();
    assert_eq!(node.renew_lease().await, Ok(Renewal::Lost));
    // The node that takes over removes what it has written.
    assert_eq!(other.adopt_rows().await, Ok(1));
    assert_eq!(matching(&other, "room", "lobby").await, []);
}
