package org.lorarar.app;

import android.content.Context;
import android.os.Build;
import android.os.PowerManager;

/** How hot the phone is, by an API newer than this is compiled against (29). */
final class Thermal {
    private static final String[] WORDS =
        {"none", "light", "moderate", "severe", "critical", "emergency", "shutdown"};

    private Thermal() {}

    /** The word for PowerManager.getCurrentThermalStatus, "unknown" before Android 10. */
    static String status(Context context) {
        if (Build.VERSION.SDK_INT < 29) {
            return "unknown";
        }
        try {
            Object power = context.getSystemService(Context.POWER_SERVICE);
            Object status = PowerManager.class.getMethod("getCurrentThermalStatus").invoke(power);
            return WORDS[(Integer) status];
        } catch (ReflectiveOperationException | IndexOutOfBoundsException error) {
            return "unknown";
        }
    }
}
