// A conversation on the terminal, in C++ with Qt DBus.
//
//   c++ -std=c++17 -fPIC -Wall chat.cpp -o chat $(pkg-config --cflags --libs Qt5DBus Qt5Network)
//   ./chat        begins a conversation and says what it is kept as
//   ./chat ID     goes on with that one
//
// One question a line. Ctrl-C stops the answer and not the program; Ctrl-D ends.
#include <QCoreApplication>
#include <QDBusConnection>
#include <QDBusMessage>
#include <QDBusObjectPath>
#include <QDBusPendingCallWatcher>
#include <QDBusUnixFileDescriptor>
#include <QDBusVariant>
#include <QEventLoop>
#include <QJsonDocument>
#include <QJsonObject>
#include <QLocalSocket>
#include <QSocketNotifier>

#include <csignal>
#include <iostream>
#include <string>
#include <unistd.h>

namespace {

const QString SERVICE = QStringLiteral("org.openkylin.GgufEngine1");
const QString ROOT = QStringLiteral("/org/openkylin/GgufEngine1");

int interruptions[2]; // a pipe: a signal handler may do little more than write
volatile sig_atomic_t answering = 0;

void onInterrupt(int) {
    if (!answering)
        _exit(130);
    const ssize_t ignored = write(interruptions[1], "", 1);
    (void)ignored;
}

QDBusMessage call(const QString &path, const QString &interface, const QString &member, const QVariantList &arguments) {
    QDBusMessage message = QDBusMessage::createMethodCall(SERVICE, path, interface, member);
    message.setArguments(arguments);
    return message;
}

// The error's name says what it is; its message is for people, in their language.
void complain(const QDBusMessage &reply) {
    std::cerr << qPrintable(reply.errorMessage()) << " [" << qPrintable(reply.errorName()) << "]" << std::endl;
}

// Shows a frame; true after the last one. Types that are not known are skipped: there may be more one day.
bool show(const QByteArray &line) {
    const QJsonObject frame = QJsonDocument::fromJson(line).object();
    const QString type = frame["type"].toString();
    if (type == "text")
        std::cout << frame["text"].toString().toStdString() << std::flush;
    else if (type == "error")
        std::cerr << frame["message"].toString().toStdString() << std::endl;
    else if (type == "end")
        std::cout << "\n(" << frame["reason"].toString().toStdString() << ")" << std::endl;
    return type == "end";
}

// Reads the stream to its end, which comes soon after a cancel as well.
void read(int descriptor, const QString &request) {
    QEventLoop loop;
    QLocalSocket stream;
    bool ended = false;
    const auto readLines = [&] {
        while (!ended && stream.canReadLine())
            ended = show(stream.readLine());
        if (ended)
            loop.quit();
    };
    QObject::connect(&stream, &QLocalSocket::readyRead, &loop, readLines);
    QObject::connect(&stream, &QLocalSocket::disconnected, &loop, &QEventLoop::quit);
    QSocketNotifier interrupted(interruptions[0], QSocketNotifier::Read);
    QObject::connect(&interrupted, &QSocketNotifier::activated, &loop, [&] {
        char byte;
        if (::read(interruptions[0], &byte, 1) == 1)
            QDBusConnection::sessionBus().asyncCall(call(request, SERVICE + ".Request", "Cancel", {}));
    });
    stream.setSocketDescriptor(descriptor);
    loop.exec();
    readLines(); // what came together with the end of the stream
    if (!ended)
        std::cerr << "The answer broke off." << std::endl;
}

void ask(const QString &session, const QString &prompt) {
    const QVariantMap options{{"prompt", prompt}};
    const QDBusMessage reply =
        QDBusConnection::sessionBus().call(call(session, SERVICE + ".Session", "Generate", {options}));
    if (reply.type() == QDBusMessage::ErrorMessage) {
        complain(reply);
        return;
    }
    const auto request = reply.arguments().at(0).value<QDBusObjectPath>();
    const auto descriptor = reply.arguments().at(1).value<QDBusUnixFileDescriptor>();
    read(dup(descriptor.fileDescriptor()), request.path()); // Qt closes its own with the reply
}

} // namespace

int main(int argc, char **argv) {
    QCoreApplication application(argc, argv);
    const QDBusConnection bus = QDBusConnection::sessionBus();
    const QDBusMessage begin =
        argc > 1 ? call(ROOT, SERVICE + ".Manager", "OpenSession", {QString(argv[1]), QVariantMap()})
                 : call(ROOT, SERVICE + ".Manager", "CreateSession", {QVariantMap{{"keep", true}}});
    const QDBusMessage session = bus.call(begin);
    if (session.type() == QDBusMessage::ErrorMessage) {
        complain(session);
        return 1;
    }
    const QString path = session.arguments().at(0).value<QDBusObjectPath>().path();
    const QDBusMessage kept = bus.call(
        call(path, "org.freedesktop.DBus.Properties", "Get", {QString(SERVICE + ".Session"), QString("KeptAs")}));
    if (kept.type() == QDBusMessage::ErrorMessage) {
        complain(kept);
        return 1;
    }
    const QString id = kept.arguments().at(0).value<QDBusVariant>().variant().toString();
    std::cerr << "This conversation is kept as " << qPrintable(id) << std::endl;

    if (pipe(interruptions) != 0)
        return 1;
    std::signal(SIGINT, onInterrupt);
    for (std::string line; std::getline(std::cin, line);) {
        if (line.empty())
            continue;
        answering = 1;
        ask(path, QString::fromStdString(line));
        answering = 0;
    }
    return 0;
}
