"""The pytest fixtures, in test suites as users write and run them."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import textwrap

import pytest

pytest_plugins = ["pytester"]

SWITCHED_ON = 'pytest_plugins = ["playai_async.testing"]'

SETTINGS = """
[pytest]
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""

VARIABLES = ("PLAYAI_API_KEY", "PLAYAI_USER_ID", "PLAYAI_BASE_URL")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A test suite with the plugin enabled and nothing else."""
    pytester.makeconftest(SWITCHED_ON)
    pytester.makefile(".ini", pytest=SETTINGS)
    return pytester


def outcomes(suite: pytest.Pytester, code: str, *options: str) -> dict[str, int]:
    """Run a file of tests that may use every name of these imports."""
    suite.makepyfile("import asyncio, os, pytest\nfrom playai_async import *\n" + textwrap.dedent(code))
    return suite.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:randomly", *options).parseoutcomes()


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_a_session_waits_for_a_job_of_the_emulator(suite: pytest.Pytester, mode: str) -> None:
    """In both modes of pytest-asyncio, in real time."""
    code = """
        @pytest.mark.asyncio
        async def test_a_job(playai_emulator, playai_session):
            job = await playai_session.wait_for_completion(playai_emulator.add_job())
            assert job.output.url.startswith(playai_emulator.audio_url)
    """
    assert outcomes(suite, code, f"--asyncio-mode={mode}") == {"passed": 1}


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_with_looptime_ten_minutes_pass_at_once(suite: pytest.Pytester, mode: str) -> None:
    """The test and the emulator share virtual time, over real sockets; windows begin with the test."""
    code = """
        import time

        @pytest.mark.asyncio
        @pytest.mark.looptime
        async def test_ten_minutes(playai_emulator, playai_session):
            began = time.monotonic()
            assert asyncio.get_running_loop().time() == 0.0
            await playai_session.wait_for_completion(playai_emulator.add_job(duration=599.0))
            assert 599.0 <= asyncio.get_running_loop().time() <= 600.0
            assert time.monotonic() - began < 30.0

        @pytest.mark.asyncio
        @pytest.mark.looptime
        async def test_a_window(playai_emulator, playai_session):
            playai_emulator.quota = 1
            jobs = [playai_emulator.add_job() for _ in range(2)]
            await playai_session.wait_for_all(jobs)
            assert 60.0 <= asyncio.get_running_loop().time() <= 65.3
    """
    assert outcomes(suite, code, f"--asyncio-mode={mode}") == {"passed": 2}


def test_a_backend_finds_the_emulator_by_the_environment(suite: pytest.Pytester) -> None:
    """A session without arguments connects to it, and so does one with its own key."""
    code = """
        @pytest.mark.asyncio
        async def test_a_backend(playai_emulator):
            job_id = playai_emulator.add_job()
            async with PlayAISession() as one, PlayAISession("a-key", "a-user") as other:
                assert (await one.get_job(job_id)).id == (await other.get_job(job_id)).id == job_id
    """
    assert outcomes(suite, code) == {"passed": 1}


@pytest.mark.parametrize("before", [None, "mine"], ids=["unset", "set"])
def test_the_environment_is_restored_after_each_test(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """Whatever the test sets, and whichever fixture it uses."""
    for variable in VARIABLES if before else ():
        monkeypatch.setenv(variable, before or "")
    code = f"""
        NOW = [os.environ.get(variable) for variable in {VARIABLES}]

        @pytest.mark.asyncio
        async def test_a_user(playai_emulator):
            assert playai_emulator.base_url == os.environ["PLAYAI_BASE_URL"]

        @pytest.mark.asyncio
        async def test_a_user_with_settings(monkeypatch, playai_emulator):
            monkeypatch.setenv("PLAYAI_API_KEY", "another")
            monkeypatch.delenv("PLAYAI_USER_ID")

        def test_no_user():
            assert NOW == [{before!r}] * 3
            assert NOW == [os.environ.get(variable) for variable in {VARIABLES}]
    """
    assert outcomes(suite, code) == {"passed": 3}


def test_a_test_that_fails_midway_leaves_nothing_to_the_next(suite: pytest.Pytester) -> None:
    """Its waits have ended, its sockets no longer listen, and nothing warns of a leak."""
    code = """
        import contextlib, gc, socket, stat

        OTHERS = set()

        def listening():
            # The ports on which this process listens, by its file descriptors. A connection would prove less: another
            # process may soon listen on a port that this one has released.
            ports = set()
            for descriptor in map(int, os.listdir("/dev/fd")):
                with contextlib.suppress(OSError):  # the descriptor of the listing itself, closed by now
                    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                        with socket.socket(fileno=os.dup(descriptor)) as copy:
                            listens = copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                            if listens and copy.family == socket.AF_INET:
                                ports.add(copy.getsockname()[1])
            return ports

        def ports_of(emulator):
            return {int(url.rpartition(":")[2]) for url in (emulator.base_url, emulator.audio_url)}

        @pytest.mark.asyncio
        async def test_that_fails(playai_emulator, playai_session):
            from playai_async.emulator import Hang
            OTHERS.update(listening() - ports_of(playai_emulator))
            playai_emulator.inject(Hang(), times=None)
            waits = [playai_session.wait_for_completion(playai_emulator.add_job()) for _ in range(20)]
            async with asyncio.TaskGroup() as tasks:
                for wait in waits:
                    tasks.create_task(wait)
                while playai_emulator.stats.in_flight < 16:
                    await asyncio.sleep(0.01)
                assert False

        @pytest.mark.asyncio
        async def test_after_it(playai_emulator, playai_session):
            gc.collect()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert playai_emulator.jobs == ()
            assert listening() - OTHERS == ports_of(playai_emulator)
            await playai_session.wait_for_completion(playai_emulator.add_job())
    """
    assert outcomes(suite, code) == {"failed": 1, "passed": 1}


def test_the_emulator_may_be_stopped_and_the_session_closed_by_the_test(suite: pytest.Pytester) -> None:
    """Tests need a service that is down, and a session that the backend closes."""
    code = """
        @pytest.mark.asyncio
        @pytest.mark.looptime
        async def test_a_service_that_is_gone(playai_emulator, playai_session):
            job_id = playai_emulator.add_job()
            await playai_emulator.stop()
            with pytest.raises(TransportError):
                await playai_session.wait_for_completion(job_id)
            await playai_session.aclose()
    """
    assert outcomes(suite, code) == {"passed": 1}


def test_a_test_that_is_not_async_fails_with_an_explanation(suite: pytest.Pytester) -> None:
    """The emulator's loop does not run in it: requests would wait until they time out."""
    suite.makepyfile("def test_it(playai_session): ...")
    result = suite.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:randomly")
    assert result.parseoutcomes() == {"errors": 1}
    result.stdout.fnmatch_lines("playai_emulator runs in the event loop of an async test, and this test is not async*")


def test_tests_that_share_a_loop_have_an_emulator_each(suite: pytest.Pytester) -> None:
    """The fixtures must use that loop, too, as pytest-asyncio requires."""
    suite.makefile(
        ".ini", pytest=SETTINGS.replace("= function", "= session") + "asyncio_default_test_loop_scope = session"
    )
    code = """
        @pytest.mark.asyncio
        @pytest.mark.parametrize("times", range(2))
        async def test_it(playai_emulator, playai_session, times):
            assert playai_emulator.jobs == ()
            await playai_session.wait_for_completion(playai_emulator.add_job())
    """
    assert outcomes(suite, code) == {"passed": 2}


def test_a_test_in_another_loop_than_its_fixtures_gets_an_error(suite: pytest.Pytester) -> None:
    """Otherwise its requests would wait for a response in vain."""
    code = """
        @pytest.mark.asyncio(loop_scope="module")
        async def test_it(playai_emulator, playai_session):
            with pytest.raises(RuntimeError, match="another event loop"):
                playai_emulator.add_job()
            with pytest.raises(ConfigurationError, match="event loop"):
                await playai_session.get_job("00000000-0000-4000-8000-000000000000")
    """
    assert outcomes(suite, code) == {"passed": 1}


def test_anyio_tests_can_use_the_fixtures(suite: pytest.Pytester) -> None:
    """The plugin of anyio is active wherever anyio is installed, and runs its marked tests with their fixtures."""
    code = """
        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_of_anyio(playai_emulator, playai_session):
            await playai_session.wait_for_completion(playai_emulator.add_job())

        @pytest.mark.asyncio
        async def test_of_pytest_asyncio(playai_emulator, playai_session):
            await playai_session.wait_for_completion(playai_emulator.add_job())
    """
    assert outcomes(suite, code) == {"passed": 2}


def test_hypothesis_tests_can_use_the_fixtures(suite: pytest.Pytester) -> None:
    """The function that hypothesis wraps is async."""
    code = """
        from hypothesis import HealthCheck, given, settings, strategies

        @pytest.mark.asyncio
        @given(fails=strategies.booleans())
        @settings(database=None, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        async def test_it(playai_emulator, playai_session, fails):
            job = await playai_session.wait_for_completion(playai_emulator.add_job(fails=fails))
            assert isinstance(job.output, Failed if fails else Completed)
    """
    assert outcomes(suite, code, "-p", "no:hypothesispytest") == {"passed": 1}


def test_the_plugin_is_off_unless_enabled(pytester: pytest.Pytester) -> None:
    """An entry point would be imported in every run of every environment that has the library."""
    pytester.makefile(".ini", pytest=SETTINGS)
    pytester.makepyfile("async def test_it(playai_emulator): ...")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:randomly")
    result.stdout.fnmatch_lines("*fixture 'playai_emulator' not found*")
    groups = {point.group for point in importlib.metadata.distribution("playai-async").entry_points}
    assert groups == {"console_scripts"}


def test_without_pytest_asyncio_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library does not depend on pytest and pytest-asyncio."""
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    monkeypatch.delitem(sys.modules, "playai_async.testing", raising=False)
    with pytest.raises(ImportError, match=r"the extra 'testing' .*: pip install pytest pytest-asyncio$"):
        importlib.import_module("playai_async.testing")


def test_without_pytest_asyncio_a_test_suite_says_what_to_install(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same message, before any test runs."""
    suite.mkpydir("pytest_asyncio").joinpath("__init__.py").write_text("raise ModuleNotFoundError")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # loading the others takes a second
    result = suite.runpytest_subprocess("-p", "no:asyncio", "-p", "no:cacheprovider")
    assert result.ret != 0
    result.stderr.fnmatch_lines("*playai_async.testing needs the extra 'testing'*")


def test_the_public_names_are_exact_and_sorted() -> None:
    """The module is a plugin: only its fixtures are public."""
    testing = importlib.import_module("playai_async.testing")
    assert testing.__all__ == ["playai_emulator", "playai_session"]
