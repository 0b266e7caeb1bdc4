/* SPDX-License-Identifier: Apache-2.0
 *
 * rdma_server FILE PORT: lets one peer write into a file on a pinfs mount by RDMA, past this
 * machine's CPU; ends when the peer hangs up. With a pin that is safe for as long as it takes: who
 * truncates the file meanwhile is refused (EBUSY), and `pinfs pins FILE` says who has it pinned.
 *
 * rdma_server --write HOST PORT TEXT: the peer. Writes TEXT to the start of the file; of "-" each
 * line of standard input, until its end.
 *
 *     server                              peer
 *     lease, map, pin, ibv_reg_mr
 *     accept {address, key, length}  -->  connect
 *                   file  <-------------  RDMA write
 *     disconnected  <-------------------  hang up
 *     ibv_dereg_mr, unpin, drop
 *
 *     cc rdma_server.c $(pkg-config --cflags --libs libpinfs librdmacm libibverbs)
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pinfs.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LENGTH = 1 << 20 };

/* What the server tells whom it accepts: big-endian. */
struct offer {
    uint64_t address;
    uint32_t key, length;
};

static void fail(const char* what, const char* why) {
    fprintf(stderr, "rdma_server: %s: %s\n", what, why);
    exit(1);
}

static void need(const char* what, long result) { /* of libpinfs */
    if (result < 0) fail(what, pinfs_last_error());
}

static void need_rdma(const char* what, int is_good) { /* of librdmacm: errno */
    if (!is_good) fail(what, strerror(errno));
}

static struct ibv_qp_init_attr queue_attributes(void) {
    struct ibv_qp_init_attr attributes = {.qp_type = IBV_QPT_RC, .sq_sig_all = 1};
    attributes.cap.max_send_wr = 1;
    attributes.cap.max_recv_wr = 1;
    attributes.cap.max_send_sge = 1;
    attributes.cap.max_recv_sge = 1;
    return attributes;
}

static struct rdma_addrinfo* resolve(const char* host, const char* port, int flags) {
    struct rdma_addrinfo hints = {.ai_flags = flags, .ai_port_space = RDMA_PS_TCP};
    struct rdma_addrinfo* found = NULL;
    if (rdma_getaddrinfo(host, port, &hints, &found) != 0)
        fail("rdma_getaddrinfo", strerror(errno));
    return found;
}

/* One peer: from its request to its end. */
static void serve(struct rdma_cm_id* peer, void* memory) {
    const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
    struct ibv_mr* const registered = ibv_reg_mr(peer->pd, memory, LENGTH, access);
    need_rdma("ibv_reg_mr", registered != NULL);
    const struct offer offer = {.address = htobe64((uintptr_t)memory),
                                .key = htobe32(registered->rkey),
                                .length = htobe32(LENGTH)};
    struct rdma_conn_param parameters = {.private_data = &offer,
                                         .private_data_len = sizeof(offer),
                                         .responder_resources = 1,
                                         .rnr_retry_count = 7};
    need_rdma("rdma_accept", rdma_accept(peer, &parameters) == 0);
    /* The peer writes without us; its hanging up is an event. */
    struct rdma_event_channel* const events = rdma_create_event_channel();
    need_rdma("rdma_create_event_channel", events != NULL);
    need_rdma("rdma_migrate_id", rdma_migrate_id(peer, events) == 0);
    for (int is_over = 0; !is_over;) {
        struct rdma_cm_event* event = NULL;
        need_rdma("rdma_get_cm_event", rdma_get_cm_event(events, &event) == 0);
        is_over = event->event == RDMA_CM_EVENT_DISCONNECTED;
        rdma_ack_cm_event(event);
    }
    rdma_disconnect(peer);
    /* Without queue and registration no device reaches the range: the pin may end. */
    rdma_destroy_qp(peer);
    need_rdma("ibv_dereg_mr", ibv_dereg_mr(registered) == 0);
    rdma_destroy_id(peer);
    rdma_destroy_event_channel(events);
}

static void serve_file(const char* path, const char* port) {
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, LENGTH) != 0) fail(path, strerror(errno));
    struct pinfs_context* context = NULL;
    need("context", pinfs_context_open(path, 0, &context));
    struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
    lease.flags = PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE;
    lease.length_bytes = LENGTH;
    need("lease", pinfs_lease_set(context, file, &lease));
    void* memory = NULL;
    need("map", pinfs_map(context, file, 0, LENGTH, PROT_READ | PROT_WRITE, 0, &memory));

    struct rdma_addrinfo* const where = resolve(NULL, port, RAI_PASSIVE);
    struct ibv_qp_init_attr attributes = queue_attributes();
    struct rdma_cm_id* listener = NULL;
    need_rdma("rdma_create_ep", rdma_create_ep(&listener, where, NULL, &attributes) == 0);
    need_rdma("rdma_listen", rdma_listen(listener, 1) == 0);
    printf("listening\n");
    fflush(stdout);
    struct rdma_cm_id* peer = NULL;
    need_rdma("rdma_get_request", rdma_get_request(listener, &peer) == 0);

    /* Reports name the pin by the device's descriptor: /dev/infiniband/uverbs0. */
    struct pinfs_pin pin = PINFS_PIN_INIT;
    pin.owner_fd = peer->verbs->cmd_fd;
    pin.length_bytes = LENGTH;
    need("pin", pinfs_pin(context, file, &pin));
    serve(peer, memory);
    need("persist", pinfs_persist(memory, LENGTH));
    need("unpin", pinfs_unpin(context, pin.id, pin.generation));

    rdma_destroy_ep(listener);
    rdma_freeaddrinfo(where);
    pinfs_context_close(context);
    close(file); /* drops the lease */
}

static void write_to(struct rdma_cm_id* server, const struct offer* offer, char* text) {
    const size_t length = strlen(text);
    if (length > be32toh(offer->length)) fail("the text", "longer than the file");
    struct ibv_mr* const registered = rdma_reg_msgs(server, text, length);
    need_rdma("rdma_reg_msgs", registered != NULL);
    need_rdma("rdma_post_write",
              rdma_post_write(server, NULL, text, length, registered, IBV_SEND_SIGNALED,
                              be64toh(offer->address), be32toh(offer->key)) == 0);
    struct ibv_wc done;
    need_rdma("rdma_get_send_comp", rdma_get_send_comp(server, &done) > 0);
    if (done.status != IBV_WC_SUCCESS) fail("the write", ibv_wc_status_str(done.status));
    printf("wrote %zu bytes\n", length);
    fflush(stdout);
    rdma_dereg_mr(registered);
}

static void write_text(const char* host, const char* port, char* text) {
    struct rdma_addrinfo* const where = resolve(host, port, 0);
    struct ibv_qp_init_attr attributes = queue_attributes();
    struct rdma_cm_id* server = NULL;
    need_rdma("rdma_create_ep", rdma_create_ep(&server, where, NULL, &attributes) == 0);
    struct rdma_conn_param parameters = {.initiator_depth = 1, .retry_count = 7};
    need_rdma("rdma_connect", rdma_connect(server, &parameters) == 0);
    struct offer offer = {.length = 0};
    if (server->event == NULL || server->event->param.conn.private_data_len < sizeof(offer))
        fail(host, "no offer came with the connection");
    memcpy(&offer, server->event->param.conn.private_data, sizeof(offer));
    if (strcmp(text, "-") != 0) write_to(server, &offer, text);
    char* line = NULL;
    size_t room = 0;
    while (strcmp(text, "-") == 0 && getline(&line, &room, stdin) > 0)
        write_to(server, &offer, line);
    free(line);
    rdma_disconnect(server);
    rdma_destroy_ep(server);
    rdma_freeaddrinfo(where);
}

int main(int argc, char** argv) {
    if (argc == 3)
        serve_file(argv[1], argv[2]);
    else if (argc == 5 && strcmp(argv[1], "--write") == 0)
        write_text(argv[2], argv[3], argv[4]);
    else
        fail("usage", "rdma_server FILE PORT | --write HOST PORT TEXT");
    return 0;
}
