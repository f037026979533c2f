"""Catalogues for tests: one with every type of argument, a small one to begin with, and one to add."""

FIRST = """
version: 1
terms:
  lamp: {zh: [灯], en: [lamp]}
commands:
  lamp.power:
    description: {zh: 开关灯, en: Switch the lamp}
    arguments:
      state:
        type: switch
        values:
          "on": {examples: {zh: [开灯, 把灯打开], en: [lamp on, turn on the lamp, switch the lamp on]}}
          "off": {examples: {zh: [关灯, 把灯关了], en: [lamp off, turn off the lamp, switch the lamp off]}}
  lamp.colour:
    description: {zh: 灯的颜色, en: Colour of the lamp}
    examples: {zh: [换个灯的颜色], en: [change the colour of the lamp]}
negatives:
  zh: [你好, 今天天气怎么样, 讲个笑话, 打开钱包]
  en: [hello, what's the weather like, tell me a joke, open the wallet]
"""

WALLET = """
version: 1
commands:
  open:
    description: {zh: 打开钱包, en: Open the wallet}
    examples: {zh: [打开钱包, 看看我的钱包], en: [open my wallet, show the wallet]}
"""

PLAYER = """
version: 1
lists:
  stations:
    jazz-24: {zh: [爵士台], en: [Jazz 24, the jazz station]}
    news.radio: {zh: [新闻台], en: [news radio]}
  apps: {}
commands:
  play.speed:
    description: {zh: 播放速度, en: Playback speed}
    arguments:
      speed: {type: number, min: 0.5, max: 3, unit: times,
              relative: {"+": {zh: [放快一点], en: [play faster]}, "-": {zh: [放慢一点], en: [play slower]}}}
    examples: {zh: [用1.5倍速播放, 播放速度两倍], en: [play at 1.5 times speed, set the playback speed to 2]}
  radio.tune:
    description: {zh: 收听电台, en: Listen to a station}
    arguments: {station: {type: choice, list: stations}}
    examples: {zh: [收听<station>, 我想听<station>], en: [tune in to <station>, listen to <station>]}
    not: {zh: [<station>是哪年办的], en: [who owns <station>]}
  web.search:
    description: {zh: 上网搜索, en: Search the web}
    arguments: {query: {type: text, max: 40}}
    examples:
      zh: [搜索<query>, 帮我搜一下<query>, 在网上查<query>]
      en: [search for <query>, look up <query> online]
    not: {zh: [搜索引擎<query>], en: [search for meaning <query>]}
  app.start:
    description: {zh: 启动应用, en: Start an application}
    availability: {any: [{kind: program, program: gtk-launch}, {kind: dbus-name, bus: session, name: org.a}]}
    arguments: {app: {type: choice, list: apps}}
    examples: {zh: [启动<app>, 打开<app>], en: [start <app>, launch <app>]}
  message.send:
    description: {zh: 发消息, en: Send a message}
    risk: confirm
    arguments: {who: {type: text, max: 20}, what: {type: text}}
    examples: {zh: [给<who>发消息说<what>], en: ["tell <who> that <what>", "message <who> saying <what>"]}
"""
