from jackfield import plugin

VERSION = "VERSION"


def message(event, context):
    content = event.json()["content"]
    return VERSION if content == "which" else content


handler = plugin(message=message)
