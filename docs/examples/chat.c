/* A conversation on the terminal, in C with GDBus.
 *
 *   cc -Wall chat.c -o chat $(pkg-config --cflags --libs gio-unix-2.0 json-glib-1.0)
 *   ./chat        begins a conversation and says what it is kept as
 *   ./chat ID     goes on with that one
 *
 * One question a line. Ctrl-C stops the answer and not the program; Ctrl-D ends.
 */
#include <gio/gio.h>
#include <gio/gunixfdlist.h>
#include <gio/gunixinputstream.h>
#include <glib-unix.h>
#include <json-glib/json-glib.h>
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#define SERVICE "org.openkylin.GgufEngine1"
#define ROOT "/org/openkylin/GgufEngine1"
#define SHORT_CALL_MS 25000

typedef struct {
  GMainLoop *loop;
  GDBusConnection *bus;
  char *session;
  char *request; /* the answer in the making, or NULL */
  GDataInputStream *questions;
  GDataInputStream *frames;
  int status;
} Chat;

static void read_question(Chat *chat);
static void read_frame(Chat *chat);

/* The error's D-Bus name says what it is; its message is for people, in their language. */
static void complain(GError *error) {
  g_autofree char *name = g_dbus_error_get_remote_error(error);
  g_dbus_error_strip_remote_error(error);
  g_printerr("%s [%s]\n", error->message, name ? name : "local");
  g_error_free(error);
}

static char *begin_or_go_on(GDBusConnection *bus, const char *id, GError **error) {
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  if (!id)
    g_variant_builder_add(&options, "{sv}", "keep", g_variant_new_boolean(TRUE));
  g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
      bus, SERVICE, ROOT, SERVICE ".Manager", id ? "OpenSession" : "CreateSession",
      id ? g_variant_new("(sa{sv})", id, &options) : g_variant_new("(a{sv})", &options),
      G_VARIANT_TYPE("(o)"), G_DBUS_CALL_FLAGS_NONE, SHORT_CALL_MS, NULL, error);
  char *path = NULL;
  if (reply)
    g_variant_get(reply, "(o)", &path);
  return path;
}

static char *kept_as(GDBusConnection *bus, const char *session, GError **error) {
  g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
      bus, SERVICE, session, "org.freedesktop.DBus.Properties", "Get",
      g_variant_new("(ss)", SERVICE ".Session", "KeptAs"), G_VARIANT_TYPE("(v)"), G_DBUS_CALL_FLAGS_NONE,
      SHORT_CALL_MS, NULL, error);
  if (!reply)
    return NULL;
  g_autoptr(GVariant) value = NULL;
  g_variant_get(reply, "(v)", &value);
  return g_variant_dup_string(value, NULL);
}

/* Shows a frame; TRUE after the last one. Types that are not known are skipped: there may be more one day. */
static gboolean show(const char *line) {
  g_autoptr(JsonNode) node = json_from_string(line, NULL);
  if (!node || !JSON_NODE_HOLDS_OBJECT(node))
    return FALSE;
  JsonObject *frame = json_node_get_object(node);
  const char *type = json_object_get_string_member_with_default(frame, "type", "");
  if (g_str_equal(type, "text")) {
    g_print("%s", json_object_get_string_member_with_default(frame, "text", ""));
  } else if (g_str_equal(type, "error")) {
    g_printerr("%s\n", json_object_get_string_member_with_default(frame, "message", ""));
  } else if (g_str_equal(type, "end")) {
    g_print("\n(%s)\n", json_object_get_string_member_with_default(frame, "reason", ""));
    return TRUE;
  }
  return FALSE;
}

static void on_frame(GObject *source, GAsyncResult *result, gpointer data) {
  Chat *chat = data;
  g_autoptr(GError) error = NULL;
  g_autofree char *line = g_data_input_stream_read_line_finish(chat->frames, result, NULL, &error);
  if (line && !show(line)) {
    read_frame(chat);
    return;
  }
  if (!line)
    g_printerr("The answer broke off.\n");
  g_clear_object(&chat->frames);
  g_clear_pointer(&chat->request, g_free);
  read_question(chat);
}

static void read_frame(Chat *chat) {
  g_data_input_stream_read_line_async(chat->frames, G_PRIORITY_DEFAULT, NULL, on_frame, chat);
}

static void on_generate(GObject *source, GAsyncResult *result, gpointer data) {
  Chat *chat = data;
  GError *error = NULL;
  g_autoptr(GUnixFDList) descriptors = NULL;
  g_autoptr(GVariant) reply =
      g_dbus_connection_call_with_unix_fd_list_finish(chat->bus, &descriptors, result, &error);
  int index = 0, descriptor = -1;
  if (reply) {
    g_variant_get(reply, "(oh)", &chat->request, &index);
    descriptor = g_unix_fd_list_get(descriptors, index, &error); /* a copy, which is ours to close */
  }
  if (descriptor < 0) {
    complain(error);
    read_question(chat);
    return;
  }
  g_autoptr(GInputStream) stream = g_unix_input_stream_new(descriptor, TRUE);
  chat->frames = g_data_input_stream_new(stream);
  read_frame(chat);
}

static void on_question(GObject *source, GAsyncResult *result, gpointer data) {
  Chat *chat = data;
  g_autofree char *line = g_data_input_stream_read_line_finish_utf8(chat->questions, result, NULL, NULL);
  if (!line) {
    g_main_loop_quit(chat->loop);
    return;
  }
  if (!*line) {
    read_question(chat);
    return;
  }
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&options, "{sv}", "prompt", g_variant_new_string(line));
  g_dbus_connection_call_with_unix_fd_list(
      chat->bus, SERVICE, chat->session, SERVICE ".Session", "Generate", g_variant_new("(a{sv})", &options),
      G_VARIANT_TYPE("(oh)"), G_DBUS_CALL_FLAGS_NONE, SHORT_CALL_MS, NULL, NULL, on_generate, chat);
}

static void read_question(Chat *chat) {
  g_data_input_stream_read_line_async(chat->questions, G_PRIORITY_DEFAULT, NULL, on_question, chat);
}

static gboolean on_interrupt(gpointer data) {
  Chat *chat = data;
  if (chat->request) { /* the stream then ends by itself, with the reason "cancelled" */
    g_dbus_connection_call(chat->bus, SERVICE, chat->request, SERVICE ".Request", "Cancel", NULL, NULL,
                           G_DBUS_CALL_FLAGS_NONE, SHORT_CALL_MS, NULL, NULL, NULL);
  } else {
    chat->status = 130;
    g_main_loop_quit(chat->loop);
  }
  return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv) {
  GError *error = NULL;
  Chat chat = {0};
  setlocale(LC_ALL, ""); /* g_print() writes in the user's encoding */
  chat.bus = g_bus_get_sync(G_BUS_TYPE_SESSION, NULL, &error);
  if (chat.bus)
    chat.session = begin_or_go_on(chat.bus, argc > 1 ? argv[1] : NULL, &error);
  g_autofree char *id = chat.session ? kept_as(chat.bus, chat.session, &error) : NULL;
  if (!id) {
    complain(error);
    return 1;
  }
  g_printerr("This conversation is kept as %s\n", id);
  chat.loop = g_main_loop_new(NULL, FALSE);
  g_autoptr(GInputStream) input = g_unix_input_stream_new(STDIN_FILENO, FALSE);
  chat.questions = g_data_input_stream_new(input);
  g_unix_signal_add(SIGINT, on_interrupt, &chat);
  read_question(&chat);
  g_main_loop_run(chat.loop);
  g_clear_object(&chat.questions);
  g_clear_object(&chat.bus);
  g_main_loop_unref(chat.loop);
  g_free(chat.session);
  return chat.status;
}
