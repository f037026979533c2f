"""Catalogues of made-up but plausible programs, to see what many commands cost."""

from __future__ import annotations

from typing import Any

import yaml

PROGRAMS = {
    "mail": ("邮件", "mail"),
    "calendar": ("日历", "calendar"),
    "photos": ("相册", "photos"),
    "notes": ("便签", "notes"),
    "reader": ("阅读器", "reader"),
    "maps": ("地图", "maps"),
    "chat": ("聊天", "chat"),
    "video": ("影音", "video player"),
    "editor": ("编辑器", "editor"),
    "sheets": ("表格", "spreadsheet"),
    "slides": ("演示", "slides"),
    "camera": ("相机", "camera"),
    "recorder": ("录音机", "recorder"),
    "drawing": ("画板", "drawing"),
    "archive": ("压缩", "archiver"),
    "torrent": ("下载器", "downloader"),
    "monitor": ("监视器", "monitor"),
    "backup": ("备份", "backup"),
    "scanner": ("扫描仪", "scanner"),
    "translator": ("词典", "dictionary"),
}
THINGS = {
    "folder": ("文件夹", "folder"),
    "page": ("页面", "page"),
    "label": ("标签", "label"),
    "window": ("窗口", "window"),
    "history": ("历史记录", "history"),
    "template": ("模板", "template"),
    "sidebar": ("侧边栏", "sidebar"),
    "draft": ("草稿", "draft"),
    "account": ("账号", "account"),
    "filter": ("过滤器", "filter"),
}
ACTIONS = {
    "new": (("新建", "创建", "加一个", "建个"), ("new", "create a", "add a", "make me a")),
    "show": (("显示", "看看", "给我看", "调出"), ("show the", "view the", "display the", "bring up the")),
    "delete": (
        ("删除", "删掉", "去掉", "不要这个"),
        ("delete the", "remove the", "get rid of the", "drop the"),
    ),
    "export": (
        ("导出", "另存", "存一份", "保存"),
        ("export the", "save a copy of the", "save out", "dump the"),
    ),
    "share": (
        ("分享", "发给别人", "共享", "转发"),
        ("share the", "send out the", "publish the", "pass on"),
    ),
}


def catalogue(program: str) -> str:
    """Return the YAML of the program's catalogue: 50 commands with 16 examples each."""
    zh, en = PROGRAMS[program]
    commands: dict[str, Any] = {}
    for thing, (thing_zh, thing_en) in THINGS.items():
        for action, (verbs_zh, verbs_en) in ACTIONS.items():
            said_zh = [f"{verb}{zh}的{thing_zh}" for verb in verbs_zh]
            said_zh += [f"{zh}里{verb}{thing_zh}" for verb in verbs_zh]
            said_en = [f"{verb} {thing_en} in {en}" for verb in verbs_en]
            said_en += [f"{en} {verb} {thing_en}" for verb in verbs_en]
            commands[f"{thing}.{action}"] = {
                "description": {"zh": f"{verbs_zh[0]}{thing_zh}", "en": f"{verbs_en[0]} {thing_en}"},
                "examples": {"zh": said_zh, "en": said_en},
            }
    nothing = {
        "zh": [f"{zh}是谁发明的", f"哪个{zh}软件好用"],
        "en": [f"who invented {en}", f"best {en} app"],
    }
    terms = {f"program-{program}": {"zh": [zh], "en": [en]}}
    return yaml.safe_dump(
        {
            "version": 1,
            "commands": commands,
            "negatives": nothing,
            "terms": terms,
        },
        allow_unicode=True,
        sort_keys=False,
    )
