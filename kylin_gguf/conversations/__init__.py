"""Conversations: their messages, which of them count, their JSON, and where they are kept on disk."""

from kylin_gguf.conversations.conversation import MAX_CHARS, MAX_MESSAGES, Conversation
from kylin_gguf.conversations.database import Database, Kept

__all__ = ["MAX_CHARS", "MAX_MESSAGES", "Conversation", "Database", "Kept"]
