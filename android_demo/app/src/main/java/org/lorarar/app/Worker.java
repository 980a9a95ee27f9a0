package org.lorarar.app;

import android.content.Context;
import android.os.Handler;
import android.os.Looper;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.lorarar.core.LorararException;

/** The one thread that works; what goes wrong on it becomes words on the screen. */
final class Worker {
    /** What is done on the thread, between other work. */
    interface Work {
        void run() throws LorararException;
    }

    private final Context context;
    private final ExecutorService thread = Executors.newSingleThreadExecutor();
    private final Handler main = new Handler(Looper.getMainLooper());
    private final List<Studio.Watcher> watchers = new ArrayList<>(); // of the main thread
    private final Runnable tell = new Runnable() {
        @Override
        public void run() {
            for (Studio.Watcher each : new ArrayList<>(watchers)) {
                each.changed();
            }
        }
    };
    private volatile String status;
    private volatile String problem;

    Worker(Context context) {
        this.context = context;
    }

    void watch(Studio.Watcher watcher) {
        watchers.add(watcher);
    }

    void unwatch(Studio.Watcher watcher) {
        watchers.remove(watcher);
    }

    /** What is being done, or null. */
    String status() {
        return status;
    }

    void status(String words) {
        status = words;
        changed();
    }

    /** What went wrong, or null. */
    String problem() {
        return problem;
    }

    /** Add to what went wrong. */
    synchronized void say(String words) {
        boolean isNew = problem == null || !problem.contains(words);
        if (isNew) {
            problem = problem == null ? words : problem + "\n" + words;
        }
        changed();
    }

    synchronized void dismissProblem() {
        problem = null;
        changed();
    }

    /** Have the watchers look again, on the main thread. */
    void changed() {
        main.removeCallbacks(tell);
        main.post(tell);
    }

    /** Do it after all that was posted before; `words`: a string that says so, 0 for none. */
    void post(final int words, final Work work) {
        thread.execute(new Runnable() {
            @Override
            public void run() {
                if (words != 0) {
                    status(context.getString(words));
                }
                attempt(work);
                if (words != 0) {
                    status = null;
                }
                changed();
            }
        });
    }

    /** Whether it was done; if not, the words are on the screen. */
    boolean attempt(Work work) {
        try {
            work.run();
            return true;
        } catch (LorararException error) {
            say(error.getMessage());
        } catch (OutOfMemoryError error) {
            say(context.getString(R.string.no_memory));
        } catch (RuntimeException | Error error) { // the engine throws anything
            say(context.getString(R.string.failed, error.toString()));
        }
        return false;
    }
}
